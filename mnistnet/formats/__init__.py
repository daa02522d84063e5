"""Files that a model lives in: checkpoint and architecture JSON, ONNX.

``mnistnet.formats.onnx_export`` is imported by whoever exports and by nobody else: onnx takes its time.
"""

from mnistnet.formats.checkpoint import (
    Architecture,
    Checkpoint,
    find_checkpoint,
    load_architecture,
    load_checkpoint,
    save_checkpoint,
)

__all__ = [
    "Architecture",
    "Checkpoint",
    "find_checkpoint",
    "load_architecture",
    "load_checkpoint",
    "save_checkpoint",
]
