"""Training: the Trainer, its pace, and runs on disk."""
