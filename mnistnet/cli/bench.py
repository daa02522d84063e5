"""``mnistnet bench``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import print_table, warn
from mnistnet.errors import choose

if TYPE_CHECKING:
    from mnistnet.reports.benchmark import BenchmarkSettings, Speed


def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="A named network, may be given more than once; all unless given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images in a training step.", min=1, max=1024)] = 64,
    cores: Annotated[
        int | None, typer.Option(help="How many to use; all unless given.", min=1, show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Turns of every contestant.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure how fast this machine trains and predicts, with PyTorch and onnxruntime where installed.

    Leave the machine to it meanwhile. It takes some ten seconds a network.

    Examples:
        mnistnet bench --model lenet

        mnistnet bench --cores 1 --json
    """
    from mnistnet.engine.workers import usable_cores
    from mnistnet.models import MODELS
    from mnistnet.reports.benchmark import BenchmarkSettings, left_out, measure

    models = [choose("--model", name, tuple(MODELS)) for name in model or MODELS]
    settings = BenchmarkSettings(batch_size, min(cores or usable_cores(), usable_cores()), rounds)
    found: list[Speed] = []
    for name in models:
        warn(f"measuring {name}")
        found += measure(name, settings)
    if as_json:
        speeds = [asdict(speed) for speed in found]
        typer.echo(json.dumps({"machine": _machine(), "settings": asdict(settings), "speeds": speeds}))
        return
    _print_speeds(found, settings)
    for name in left_out():
        typer.echo(f"{name} is not installed")


def _machine() -> dict[str, Any]:
    import platform

    import numpy as np

    from mnistnet.engine.blas import kernel
    from mnistnet.engine.workers import usable_cores

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas_kernel": kernel(),
    }


def _print_speeds(found: list[Speed], settings: BenchmarkSettings) -> None:
    machine = _machine()
    typer.echo(
        f"{settings.cores} of {machine['cores']} cores, NumPy {machine['numpy']} ({machine['blas_kernel']}), "
        f"batch {settings.batch_size}; medians of {settings.rounds} rounds in turn"
    )
    rows: list[tuple[str, ...]] = [("network", "", "training", "prediction", "one image")]
    for speed in found:
        rates = (f"{rate:,.0f}/s" if rate else "-" for rate in (speed.training, speed.prediction))
        latency = f"{1e6 * speed.latency:.0f} us" if speed.latency else "-"
        rows.append((speed.network, speed.contestant, *rates, latency))
    print_table(rows, left=(0, 1))
