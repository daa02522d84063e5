"""A layer that no module of the engine defines: whoever imports this registers it, and takes it out again."""

from dataclasses import dataclass

from mnistnet.engine.layers import ReLU


@dataclass
class Threshold(ReLU, kind="threshold_of_the_tests"):
    """A ReLU under another name."""
