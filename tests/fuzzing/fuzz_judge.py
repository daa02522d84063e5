"""One input of the fuzzer: made, tried, and judged."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from unittest.mock import patch

import numpy as np
from fuzz_targets import TARGETS, corpus

from mnistnet.errors import MnistnetError
from mnistnet.formats import checkpoint, rsnet
from mnistnet.formats.onnx_operators import limits

try:
    import resource
except ImportError:  # Windows: no limits there
    resource = None  # type: ignore[assignment]

MOST_SECONDS = 2.0
"""Of the processor's time, which a busy machine does not stretch."""
MOST_CHARACTERS = 3000
"""Of a message; paths are short here."""


class TooSlowError(BaseException):
    """No `Exception`: nothing on the way may take it for a fault of the file."""


@dataclass(frozen=True)
class Fault:
    """What an input broke."""

    kind: str
    """Equal for what is probably the same fault."""
    detail: str


def make_input(name: str, seed: int, number: int) -> bytes:
    """An input of a format: the same for the same seed and number."""
    rng = Random(f"{name} {seed} {number}")
    files = corpus(name)
    data = rng.choice(TARGETS[name].mutations)(rng, rng.choice(files), files)
    if rng.random() < 0.1:
        data = rng.choice(TARGETS[name].mutations)(rng, data or b"\0", files)
    return data


def judge(name: str, data: bytes, folder: Path, *, limited: bool = False) -> tuple[bool, Fault | None]:
    """Whether the first step took the file, and what broke, if anything did.

    Args:
        name: the format.
        data: the file's bytes.
        folder: of `make_folder`.
        limited: whether this process may limit its own memory and time, as one of the fuzzer's does.
    """
    target = TARGETS[name]
    path = folder / target.file
    path.write_bytes(data)
    accepted = False
    for step in target.steps:
        try:
            with (
                lowered(),
                _limits(target.warranted(data)) if limited else contextlib.nullcontext(),
                _strict(),
            ):
                step(path)
            accepted = accepted or step is target.steps[0]
        except MnistnetError as error:
            fault = _fault_of_message(error)
            if fault is not None:
                return False, fault
        except TooSlowError as error:
            return False, Fault(f"slow: {_where(error)}", f"more than {MOST_SECONDS} s")
        except BaseException as error:
            kind = f"{type(error).__name__}: {_where(error)}"
            return False, Fault(kind, "".join(traceback.format_exception(error))[-3000:])
    return accepted, None


def _fault_of_message(error: MnistnetError) -> Fault | None:
    """What is wrong with how a file was refused."""
    cause: BaseException | None = error
    seen: set[BaseException] = set()
    while cause is not None and cause not in seen:
        seen.add(cause)
        if isinstance(cause, MemoryError):
            return Fault(f"memory: {_where(cause)}", str(error))
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if not text.strip() or len(text) > MOST_CHARACTERS:
        return Fault(
            f"message of {'no' if not text.strip() else 'too many'} characters: {_where(error)}", text[:300]
        )
    if not text.replace("\ufffd", "").isprintable():
        return Fault(f"message with control characters: {_where(error)}", repr(text))
    return None


def _where(error: BaseException) -> str:
    """The innermost line of the package in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}mnistnet{os.sep}" in frame.filename]
    if not frames:
        return "nowhere"
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"


@contextlib.contextmanager
def lowered() -> Iterator[None]:
    """Smaller limits than the package's own: what does not hold to them needs less memory to be found."""
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            *((checkpoint, "MOST_PARAMETERS", 2**20), (checkpoint, "MOST_ACTIVATIONS", 2**18)),
            *((rsnet, "MOST_ACTIVATIONS", 2**18), (limits, "MOST_ELEMENTS", 2**22)),
            *((limits, "MOST_PRODUCTS", 2**26), (limits, "MOST_PIXELS", 2**16)),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Warnings are faults, and nothing is printed."""
    with (
        warnings.catch_warnings(),
        np.errstate(over="warn", divide="warn", invalid="warn"),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def _limits(memory: int) -> Iterator[None]:
    """Allocations of more than ``memory`` bytes beyond today's fail; too much time raises TooSlowError."""
    assert resource is not None
    assert threading.current_thread() is threading.main_thread()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError
