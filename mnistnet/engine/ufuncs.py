"""How NumPy's operators are set while plans run: quiet, and with small buffers.

An operator on arrays that lie in pieces, such as every second column, works through a buffer that NumPy
copies the pieces into. Its 8,192 numbers fill half a first-level cache for each argument: with 1,024, a
shard's step of lenet takes 700 instead of 780 microseconds, of rsnet 305 instead of 365, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

BUFFER_SIZE = 1024  # numbers


def _settings() -> Context:
    # NumPy keeps its settings in a context variable; entering a context made once costs less than np.errstate
    context = Context()
    context.run(np.seterr, all="ignore")
    context.run(np.setbufsize, BUFFER_SIZE)
    return context


_SETTINGS = _settings()


def calculate(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that runs plans.

    Numbers that overflow give what they give, without a warning: whoever runs a plan looks at the result.
    The function does not see the context variables of its caller.
    """
    return _SETTINGS.copy().run(function, *args, **kwargs)
