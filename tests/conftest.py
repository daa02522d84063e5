"""What holds for every test: floating-point faults are errors, and Hypothesis is quick."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None, max_examples=40)
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(autouse=True)
def _floating_point_faults_are_errors() -> Iterator[None]:
    """Overflow, division by zero and invalid operations raise; underflow is what softmax is made of."""
    with np.errstate(all="raise", under="ignore"):
        yield
