"""``mnistnet data``: datasets fetched, checked, and brought from one form to another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.cli.console import choose, warn

if TYPE_CHECKING:
    from mnistnet.data.catalog import Entry
    from mnistnet.data.catalog_download import Bar

data = typer.Typer(
    name="data", help="Get published datasets, check and convert your own.", no_args_is_help=True
)


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
        total=0,
        desc=name,
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    return bar
