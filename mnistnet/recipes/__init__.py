"""Settings that do well, as readable files: ``mnistnet train --recipe NAME``."""
