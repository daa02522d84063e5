"""How a setting goes to another process: as the name of its class and its own settings, in JSON."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from mnistnet.errors import UsageError


def description(thing: object, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `rebuild` makes the same of again, elsewhere."""
    cls = type(thing)
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "settings": dict(settings)}


def rebuild(described: Mapping[str, Any]) -> Any:
    """The thing that `description` is of; its class must be importable."""
    module, name = described["class"].split(":")
    return getattr(importlib.import_module(module), name)(**described["settings"])


def import_modules(names: Sequence[str]) -> None:
    """Import modules for what they register, such as layers."""
    for name in names:
        importlib.import_module(name)


def check_importable(thing: object) -> None:
    """Raise UsageError if another process cannot import the thing's class."""
    cls = type(thing)
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise UsageError(
            f"{cls.__qualname__}: worker processes cannot import it from {cls.__module__}: "
            "define it at the top of a module of its own, or train with workers=1"
        )
