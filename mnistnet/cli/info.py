"""``mnistnet info``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, print_table, say, warn
from mnistnet.cli.model_file import find_model

if TYPE_CHECKING:
    from mnistnet.formats.checkpoint import Checkpoint
    from mnistnet.reports.summary import Comparison, LayerSummary, Summary


def info(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or a folder: its newest checkpoint.", show_default=False)
    ],
    diff: Annotated[
        Path | None, typer.Option(help="Another one: say in what the two differ.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
) -> None:
    """Say what is in a checkpoint: its layers and what they cost, its input pipeline, how it was trained.

    Examples:
        mnistnet info ckpt/lenet.json

        mnistnet info runs/a --diff runs/b
    """
    from mnistnet.reports.summary import compare, summarize

    path, found = _read(checkpoint, size_limit)
    if diff is None:
        summary = summarize(found)
        if as_json:
            sums = {"parameters": summary.parameters, "multiply_adds": summary.multiply_adds}
            typer.echo(json.dumps({"file": str(path), **asdict(summary), **sums}))
        else:
            _print_summary(path, summary)
        return
    other_path, other = _read(diff, size_limit)
    comparison = compare(found, other)
    if as_json:
        files = {"files": [str(path), str(other_path)]}
        typer.echo(json.dumps({**files, **asdict(comparison), "same": comparison.same}))
    else:
        _print_comparison(path, other_path, comparison)


def _read(path: Path, size_limit: int) -> tuple[Path, Checkpoint]:
    from mnistnet.formats.checkpoint import find_checkpoint, load_checkpoint
    from mnistnet.training.runs import members_of

    model = find_model(path)
    file = find_checkpoint(model)
    if networks := members_of(model):
        warn(f"{model}: an ensemble of {len(networks)} networks, of which this is {file}")
    return file, load_checkpoint(file, limit=size_limit * 2**20)


def _print_summary(path: Path, summary: Summary) -> None:
    shift = f" {summary.shift:+.6g}" if summary.shift else ""
    say(f"{path}: {summary.model}")
    if len(summary.input_shape) == 3:
        typer.echo(f"Input:   {_by(summary.input_shape)}, a byte times {summary.scale:.6g}{shift}")
        say(f"Classes: {', '.join(summary.classes)}")
    else:
        typer.echo(f"Input:   {summary.input_shape[0]} numbers")
        say(f"Output:  {', '.join(summary.classes)}")
    typer.echo()
    header = ("#", "layer", "settings", "output", "parameters", "multiply-adds")
    rows = [_layer_row(index, layer) for index, layer in enumerate(summary.layers)]
    total = ("", "", "", "", f"{summary.parameters:,}", f"{summary.multiply_adds:,}")
    print_table([header, *rows, total], left=(1, 2))
    typer.echo(
        f"\nMemory:  {_size(summary.parameter_bytes)} of parameters, "
        f"{_size(summary.prediction_bytes)} of buffers to predict one image"
    )
    if summary.training:
        typer.echo("Training")
    width = max(map(len, summary.training), default=0)
    for name, value in summary.training.items():
        say(f"  {name:{width}}  {_plain(value)}")


def _print_comparison(first: Path, second: Path, comparison: Comparison) -> None:
    if comparison.same:
        typer.echo(f"{first} and {second} agree in every fact and every weight")
        return
    rows = [(name, _plain(a), _plain(b)) for name, (a, b) in comparison.facts.items()]
    print_table([("", str(first), str(second)), *rows], left=(0, 1, 2))
    if comparison.weights:
        typer.echo("\nLargest difference of a number in")
    width = max(map(len, comparison.weights), default=0)
    for name, difference in comparison.weights.items():
        typer.echo(f"  {name:{width}}  {difference:.3g}")


def _layer_row(index: int, layer: LayerSummary) -> tuple[str, ...]:
    counts = (f"{count:,}" if count else "" for count in (layer.parameters, layer.multiply_adds))
    return (str(index), layer.kind, _plain(dict(layer.config)), _by(layer.output_shape), *counts)


def _plain(value: Any) -> str:
    """A JSON value as a person writes it."""
    match value:
        case None:
            return "-"
        case {"kind": kind, **settings}:
            return f"{kind} ({_plain(settings)})" if settings else str(kind)
        case dict():
            return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
        case list() | tuple() if value and all(isinstance(item, int) for item in value):
            return _by(value)
        case list() | tuple():
            return ", ".join(map(_plain, value))
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def _by(shape: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, shape))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
