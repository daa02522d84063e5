"""Every library in a process of its own, so that none has another's threads or settings."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import traceback
from typing import Any

STOP = "stop"


class HostError(RuntimeError):
    """What was asked for failed in the host; the message is its last line."""


class Host:
    """A process that has one object and calls its methods when it is told.

    Args:
        target: ``"module:class"``, made there without arguments.

    Raises:
        HostError: the class could not be made there, such as where its library is not installed.
    """

    def __init__(self, target: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # not a daemon: mnistnet's own workers are children of their host
        self._process = context.Process(target=_serve, args=(theirs, target))
        self._process.start()
        theirs.close()
        try:
            self._answer(None)
        except HostError:
            self.close()
            raise

    def ask(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """The method's result.

        Raises:
            HostError: it raised, or took longer than ``timeout`` seconds; then the host is of no more use.
        """
        self._pipe.send((method, arguments))
        return self._answer(timeout)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.send((STOP, ()))
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _answer(self, timeout: float | None) -> Any:
        if timeout is not None and not self._pipe.poll(timeout):
            self._process.kill()
            raise HostError(f"took longer than {timeout:.0f} s")
        try:
            good, result = self._pipe.recv()
        except EOFError as error:
            raise HostError("the process has ended") from error
        if not good:
            raise HostError(result)
        return result


def _serve(pipe: multiprocessing.connection.Connection, target: str) -> None:
    module, name = target.split(":")
    try:
        team = getattr(importlib.import_module(module), name)()
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return
    pipe.send((True, None))
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, arguments = pipe.recv()
            if method == STOP:
                break
            try:
                pipe.send((True, getattr(team, method)(*arguments)))
            except Exception as error:
                last = str(error).strip().splitlines() or [""]
                where = traceback.extract_tb(error.__traceback__)[-1]
                pipe.send((False, f"{type(error).__name__}: {last[0]} ({where.name}, line {where.lineno})"))
    team.close()
