"""``mnistnet data``: datasets fetched, checked, and brought from one form to another."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.cli.console import bar, warn
from mnistnet.errors import DataError, UsageError, choose, plain

if TYPE_CHECKING:
    from mnistnet.data.catalog import Entry
    from mnistnet.data.catalog_download import Bar
    from mnistnet.data.dataset import Found

EXAMPLES = 12  # of each class, on a sheet

data = typer.Typer(name="data")


@data.callback(invoke_without_command=True)
def _data(context: typer.Context) -> None:
    """Get published datasets, check and convert your own."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@data.command()
def get(
    name: Annotated[
        str, typer.Argument(help="The dataset's name: see mnistnet data list.", show_default=False)
    ],
) -> None:
    """Download a published dataset to the cache, and verify it.

    The cache is $MNISTNET_CACHE, or the platform's folder for caches. Train on it with --data NAME.

    Example:
        mnistnet data get fashion-mnist
    """
    typer.echo(dataset_folder("NAME", name, verify=True))


@data.command("list")
def show() -> None:
    """Show the datasets that can be downloaded, and which are in the cache."""
    from mnistnet.data.catalog import CATALOG
    from mnistnet.data.catalog_download import cache_folder, is_cached

    cache = cache_folder()
    width = max(map(len, CATALOG))
    typer.echo(f"{'name':{width}}  {'train':>7}  {'test':>6}  classes  download  licence")
    for entry in CATALOG.values():
        train, test = entry.images
        there = f"  in {cache / entry.name}" if is_cached(entry, cache) else ""
        typer.echo(
            f"{entry.name:{width}}  {train:>7,}  {test:>6,}  {len(entry.class_names):>7}"
            f"  {entry.megabytes:>5} MB  {entry.licence}{there}"
        )


@data.command()
def check(
    source: Annotated[Path, typer.Argument(help="Folder or file with the data.", show_default=False)],
    sheet: Annotated[
        Path | None, typer.Option(help="Write a picture with examples of every class (PNG).")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a mended copy to this new path; the source is never changed.")
    ] = None,
) -> None:
    """Look a dataset over: counts, values, duplicates, turned or inverted images, labels, damaged files.

    Ends with 3 when something is wrong (with --fix, when nothing can be mended), and says what --fix would
    do about it where that is safe.

    Examples:
        mnistnet data check data --sheet classes.png

        mnistnet data check photos --fix photos-mended
    """
    from mnistnet.data.convert import write_data
    from mnistnet.data.doctor import examine
    from mnistnet.files import check_target, write_atomically

    if sheet is not None:
        check_target(sheet)
    diagnosis = examine(source)
    if diagnosis.found is not None:
        _describe(diagnosis.found)
    for finding in diagnosis.findings:
        mends = f" (--fix: {finding.repair})" if finding.mended is not None else ""
        typer.echo(f"! {plain(finding.text)}{mends}")
    if not diagnosis.findings:
        typer.echo("Nothing wrong found.")
    if sheet is not None and diagnosis.found is not None:
        write_atomically(sheet, _sheet(diagnosis.found))
        typer.echo(f"Examples of every class: {sheet}")
    if fix is not None:
        if diagnosis.mended is None or all(finding.mended is None for finding in diagnosis.findings):
            raise DataError(f"{source}: there is nothing that --fix can mend safely")
        own = diagnosis.mended.form
        write_data(diagnosis.mended, fix, _form(fix, "idx" if own == "npz" else own))
        typer.echo(f"Mended copy: {fix}")
    elif diagnosis.findings:
        raise typer.Exit(DataError.exit_code)


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder or file with the data.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(help="New folder; or a new file that ends in .npz.", show_default=False)
    ],
    to: Annotated[
        str | None,
        typer.Option(
            help="idx, csv, pictures, rsnet or npz; npz for a TARGET that ends in it, else idx.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Bring every image to WIDTHxHEIGHT, such as 28x28.", show_default=False)
    ] = None,
) -> None:
    """Write a dataset in another form, or its images in another size.

    Examples:
        mnistnet data convert train.csv mnist.npz

        mnistnet data convert photos small --to idx --size 32x32
    """
    from mnistnet.data.convert import FORMS, write_data
    from mnistnet.data.sources import find_data

    form = choose("--to", to or _form(target, "idx"), (*FORMS, "npz"))
    if (form == "npz") != (target.suffix == ".npz"):
        raise UsageError(
            f"--to: {form} goes with {'a file' if form == 'npz' else 'a folder'}, found {target}"
        )
    found = find_data(source, size=None if size is None else _size(size))
    for message in found.warnings:
        warn(plain(message))
    write_data(found, target, form)
    typer.echo(f"{' and '.join(str(len(part.labels)) for part in found.parts)} images: {target}")


def _form(target: Path, folder: str) -> str:
    """The form to write: npz to a name that ends in it, else that of a ``folder``."""
    return "npz" if target.suffix == ".npz" else folder


def _size(text: str) -> tuple[int, int]:
    """(height, width)."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if match is None:
        raise UsageError(f"--size: expected WIDTHxHEIGHT, such as 28x28, found {text!r}")
    return int(match[2]), int(match[1])


def _describe(found: Found) -> None:
    """Counts of images by class, and the range of the pixels."""
    from mnistnet.data.doctor import class_counts, class_names

    names = class_names(found)
    _, c, h, w = found.train.images.shape
    typer.echo(f"{found.path}: {found.form}, images of {c}x{h}x{w}, {len(names)} classes")
    width = max(map(len, names))
    counts = [class_counts(part, len(names)).tolist() for part in found.parts]
    most = max(1, *counts[0])
    titles = "".join(f"{title:>9}" for title, _ in zip(("train", "test"), counts, strict=False))
    typer.echo(f"  {'':{width}}{titles}")
    for label, name in enumerate(names):
        numbers = "".join(f"{count[label]:>9,}" for count in counts)
        typer.echo(f"  {name:{width}}{numbers}  {bar(counts[0][label] / most, 20)}".rstrip())
    totals = "".join(f"{len(part.labels):>9,}" for part in found.parts)
    typer.echo(f"  {'all':{width}}{totals}")
    images = found.train.images
    typer.echo(f"Pixels: {images.min()} to {images.max()}, mean {images.mean():.1f}")


def _sheet(found: Found) -> bytes:
    from mnistnet.data.doctor import class_counts, class_names
    from mnistnet.data.pictures.drawing import class_sheet

    names, part = class_names(found), found.train
    counts = class_counts(part, len(names))
    return class_sheet(
        [
            (f"{name}  {counts[label]:,}", part.images[part.labels == label][:EXAMPLES])
            for label, name in enumerate(names)
        ]
    )


def chosen_data(flag: str, path: Path | None, name: str | None) -> Path:
    """Where the data are, by path or by name, after they were fetched if need be; data/ unless said.

    Args:
        flag: the flag that gives the path.
        path: its value.
        name: the value of ``--data``.

    Raises:
        UsageError: both are given, or there is no such dataset.
        DataError: it cannot be downloaded.
    """
    if name is not None and path is not None:
        raise UsageError(f"--data: give either --data or {flag}, found both")
    return (path or Path("data")) if name is None else dataset_folder("--data", name)


def dataset_folder(flag: str, name: str, *, verify: bool = False) -> Path:
    """The folder of a published dataset, downloaded with a progress bar unless the cache has it.

    Args:
        flag: the flag or argument the name came from.
        name: the dataset's name.
        verify: whether files in the cache are compared with their checksums.

    Raises:
        UsageError: there is no such dataset.
        DataError: it cannot be downloaded.
    """
    from mnistnet.data.catalog import CATALOG
    from mnistnet.data.catalog_download import cache_folder, fetch, is_cached

    choose(flag, name, tuple(CATALOG))
    entry, cache = CATALOG[name], cache_folder()
    if is_cached(entry, cache) and not verify:
        return cache / name
    if not is_cached(entry, cache):
        _announce(entry, cache)
    return fetch(entry, cache, bar=_bar)


def _announce(entry: Entry, cache: Path) -> None:
    warn(
        f"getting {entry.title} ({entry.megabytes} MB, {entry.licence}) from {entry.mirrors[0]}"
        f" to {cache / entry.name}"
    )


def _bar(name: str) -> Bar:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own
    bar: Bar = tqdm(
        total=1,  # until the server says; a bar of nothing is false, and would never move
        desc=name,
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    return bar
