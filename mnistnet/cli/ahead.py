"""What a training needs beside its data, made ready while they are read: reading keeps only one core busy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mnistnet.training.settings import Settings


@contextlib.contextmanager
def made_ready(settings: Settings, workers: int | None) -> Iterator[Callable[[], None]]:
    """Start the worker processes that these settings will want, and import what comes after the data.

    Args:
        settings: of the training.
        workers: how many processes were asked for, if any were.

    Yields:
        What waits for the imports; to be called before anything else is imported.
    """
    # what reading needs is imported here: a package that two threads enter at once, one by way of a module
    # in it, may lock both out
    import mnistnet.data.pictures.planes
    import mnistnet.data.sources  # noqa: F401
    from mnistnet.engine.crew import started_ahead
    from mnistnet.engine.workers import meanwhile

    with started_ahead(_processes(settings, workers), "mnistnet.engine.minibatch"):
        imported = meanwhile(_import)

        def wait() -> None:
            with contextlib.suppress(Exception):  # it comes again where the import is needed
                imported()

        yield wait


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
