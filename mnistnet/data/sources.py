"""Labelled images from wherever they are: the form of a folder or file is told by what is in it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnistnet.data.csv_files import is_csv, read_csv_file, read_csv_folder
from mnistnet.data.dataset import DIGITS, Found, Splits
from mnistnet.data.idx_folder import has_idx_names, read_idx_folder
from mnistnet.data.image_folder import METADATA, has_class_folders, read_image_folder, read_metadata_folder
from mnistnet.data.listing import names_in
from mnistnet.data.npz import read_npz
from mnistnet.data.pictures.decode import resized
from mnistnet.errors import DataError

LOOKED_FOR = (
    "MNIST's four IDX files, CSV files, an .npz archive, metadata.json, or one subfolder of pictures a class"
)


def load_data(source: str | os.PathLike[str], *, class_names: tuple[str, ...] = DIGITS) -> Splits:
    """Read a dataset of any form, ready to train on.

    Args:
        source: a folder with MNIST's four IDX files (raw or ``.gz``), with CSV files, with one ``.npz``
            archive, with rsnet's ``metadata.json``, or with one subfolder of pictures for each class; or a
            CSV or ``.npz`` file.
        class_names: what the labels 0, 1, 2, … mean where the data do not say.

    Returns:
        Training and test part. Where the source has no test part, a seventh of its images, drawn at
        random but always the same, becomes it, and a warning says so.

    Raises:
        DataError: there is no such source, or it cannot be used; one line that begins with the path.
    """
    return find_data(Path(source)).splits(class_names)


def find_data(
    source: Path, *, damaged: list[str] | None = None, size: tuple[int, int] | None = None
) -> Found:
    """What a source holds, as `load_data` takes it, before its labels are checked against its classes.

    Args:
        source: see `load_data`.
        damaged: where given, pictures that cannot be read are left out and said here.
        size: (H, W) to bring every image to.

    Raises:
        DataError: as `load_data`.
    """
    if not source.exists():
        raise DataError(
            f"{source}: no such file or folder; train with --data mnist to download MNIST, or put the data"
            " there (MNIST's files are at https://ossci-datasets.s3.amazonaws.com/mnist/)"
        )
    # pictures are made one size as they are read, for they come in many
    if source.is_dir():
        if METADATA in (names := names_in(source)) and not has_idx_names(names):
            return read_metadata_folder(source, damaged, size)
        if not any(_is_table(name) for name in names) and has_class_folders(source):
            return read_image_folder(source, damaged, size)
    found = _tables(source)
    if size is None or all(part.images.shape[2:] == size for part in found.parts):
        return found
    return found.changed(lambda part: replace(part, images=np.stack([resized(i, size) for i in part.images])))


def _tables(source: Path) -> Found:
    """What a source holds other than pictures."""
    if not source.is_dir():
        if is_csv(source.name):
            return read_csv_file(source)
        if source.suffix == ".npz":
            return read_npz(source)
        raise DataError(f"{source}: expected a folder, a .csv, .csv.gz or .npz file; found another file")
    names = names_in(source)
    if has_idx_names(names):
        return read_idx_folder(source)
    if any(is_csv(name) for name in names):
        return read_csv_folder(source)
    archives = [name for name in names if name.endswith(".npz")]
    if len(archives) == 1:
        return read_npz(source / archives[0])
    raise DataError(f"{source}: no data here: looked for {LOOKED_FOR}; found {_some(names)}")


def _is_table(name: str) -> bool:
    return has_idx_names([name]) or is_csv(name) or name.endswith(".npz")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "an empty folder"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
