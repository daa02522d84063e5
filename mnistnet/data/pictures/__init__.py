"""A person's own pictures, read as a model expects them: one module a step."""

from mnistnet.data.pictures.reading import Picture, Step, read_digits, read_picture

__all__ = ["Picture", "Step", "read_digits", "read_picture"]
