"""Published datasets fetched to the cache: mirrors in order, checksums verified, never half a file."""

from __future__ import annotations

import os
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from mnistnet.data.catalog import Entry, RemoteFile
from mnistnet.data.dataset import CLASSES_FILE
from mnistnet.data.idx import decode_idx, write_idx
from mnistnet.errors import DataError, OutputError, explain
from mnistnet.files import write_atomically

CACHE_VARIABLE = "MNISTNET_CACHE"
_FILES = tuple(f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
_STALE = 24 * 3600.0  # seconds after which a partial download belongs to nobody any more


class Bar(Protocol):
    """What shows the progress of one file; tqdm's bars are such."""

    total: float
    """Bytes; tqdm's bars are false while it is 0, and pooch moves no such bar."""

    def update(self, n: float) -> object:
        """So many bytes more."""

    def reset(self) -> object:
        """Back to the beginning."""

    def close(self) -> object:
        """No more to show; may be called twice."""


def cache_folder() -> Path:
    """Where datasets are kept: ``$MNISTNET_CACHE``, or the platform's folder for caches."""
    stated = os.environ.get(CACHE_VARIABLE)
    if stated:
        return Path(stated).expanduser()
    import pooch

    return Path(pooch.os_cache("mnistnet"))


def is_cached(entry: Entry, cache: Path) -> bool:
    """Whether a dataset is whole in the cache."""
    # written when everything else is in place
    return (cache / entry.name / CLASSES_FILE).is_file()


def fetch(
    entry: Entry, cache: Path, *, bar: Callable[[str], Bar] | None = None, timeout: float = 30.0
) -> Path:
    """Download a dataset; files that the cache has are verified, and fetched again only if they are wrong.

    EMNIST's images are turned upright and its letters counted from 0 on the way.

    Args:
        entry: the dataset.
        cache: the folder of all datasets.
        bar: makes a progress bar for a file of this name.
        timeout: seconds that a server may be silent.

    Returns:
        The dataset's folder: four IDX files and ``classes.txt``.

    Raises:
        DataError: no mirror served a file with the right checksum.
        OutputError: the cache cannot be written.
    """
    folder = cache / entry.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        if entry.split is None:
            for file in entry.files:
                _fetch_file(entry, file, folder, bar, timeout)
        else:
            archives = cache / "emnist"
            archives.mkdir(exist_ok=True)
            _remove_stale(archives)
            (file,) = entry.files
            _fetch_file(entry, file, archives, bar, timeout)
            _unpack_emnist(archives / file.name, entry.split, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {explain(error)}") from error
    write_atomically(folder / CLASSES_FILE, "".join(f"{name}\n" for name in entry.class_names).encode())
    return folder


def _fetch_file(
    entry: Entry, file: RemoteFile, folder: Path, bar: Callable[[str], Bar] | None, timeout: float
) -> None:
    """One file from the first mirror that serves the right bytes."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in entry.mirrors:
        shown = bar(file.name) if bar is not None else None
        downloader = pooch.HTTPDownloader(
            progressbar=False if shown is None else shown,
            timeout=timeout,
            # the bytes as they are published, not as a server likes to pack them
            headers={"Accept-Encoding": "identity"},
        )
        try:
            # to a temporary file, which takes the name only when its checksum is right
            pooch.retrieve(mirror + file.name, file.checksum, file.name, folder, downloader=downloader)
            return
        except requests.RequestException as error:
            failures.append(f"{mirror} {_why(error)}")
        except ValueError:
            failures.append(f"{mirror} served other bytes than were published (checksum)")
        finally:
            if shown is not None:
                shown.close()
    raise DataError(
        f"{entry.name}: {file.name} cannot be had: {'; '.join(failures)}; try again later, or put"
        f" {' '.join(each.name for each in entry.files)} into {folder} by hand and repeat"
    )


def _why(error: Exception) -> str:
    """A failed request in a few words."""
    import requests

    match error:
        case requests.TooManyRedirects():
            return "redirects in circles"
        case requests.HTTPError() if error.response is not None:
            return f"answered {error.response.status_code} ({error.response.reason})"
        case requests.exceptions.ChunkedEncodingError():
            return "broke off"
        # requests tells a silence before the first byte from one after it, a person does not
        case requests.ConnectionError() | requests.Timeout() if "timed out" in str(error).lower():
            return "fell silent"
        case _:
            return "cannot be reached"


def _remove_stale(folder: Path) -> None:
    """Delete what a killed download left; a living one's is younger."""
    for path in folder.glob("tmp*"):
        if time.time() - path.stat().st_mtime > _STALE:
            path.unlink(missing_ok=True)


def _unpack_emnist(archive: Path, split: str, folder: Path) -> None:
    """One split of EMNIST's archive as upright images and labels from 0."""
    try:
        with zipfile.ZipFile(archive) as members:
            for ours in _FILES:
                theirs = f"gzip/emnist-{split}-{ours.replace('t10k', 'test')}-ubyte.gz"
                values = decode_idx(members.read(theirs), f"{archive}: {theirs}", dtype=np.uint8)
                # its images are transposed, and its letters are numbered from 1
                if values.ndim == 3:
                    values = values.transpose(0, 2, 1)
                elif split == "letters":
                    values = values - np.uint8(1)
                write_idx(folder / f"{ours}-ubyte.gz", values)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise DataError(f"{archive}: not EMNIST's archive: {error}; delete it and repeat") from error
