"""What a training needs beside its data, made ready while they are read: reading keeps only one core busy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mnistnet.training.settings import Settings


@contextlib.contextmanager
def made_ready(settings: Settings, workers: int | None) -> Iterator[None]:
    """Start the worker processes that these settings will want, and import what comes later anyway.

    Args:
        settings: of the training.
        workers: how many processes were asked for, if any were.
    """
    from mnistnet.engine.crew import started_ahead
    from mnistnet.engine.workers import meanwhile

    with started_ahead(_processes(settings, workers), "mnistnet.engine.minibatch"):
        meanwhile(_import)  # an error in it comes again where the import is needed
        yield


def _processes(settings: Settings, workers: int | None) -> int:
    """How many processes will be wanted beside this one, if the images are like MNIST's."""
    from mnistnet.engine.division import choose_workers
    from mnistnet.models import MODELS, build

    trains = settings.nb_epochs > 0 or settings.budget is not None
    if settings.model not in MODELS or settings.start_from is not None or not trains:
        return 0
    network, transformed = build(settings.model), settings.augmentation is not None
    return choose_workers(network, settings.batch_size, workers, transformed=transformed) - 1


def _import() -> None:
    import tqdm  # noqa: F401

    import mnistnet.cli.recorder
    import mnistnet.training.runs
    import mnistnet.training.trainer  # noqa: F401
