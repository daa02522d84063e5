"""Labelled images from wherever they are: the form of a folder or file is told by what is in it."""

from __future__ import annotations

from pathlib import Path

from mnistnet.data.csv_files import is_csv, read_csv_file, read_csv_folder
from mnistnet.data.dataset import Found, Splits
from mnistnet.data.idx_folder import has_idx_names, read_idx_folder
from mnistnet.data.image_folder import METADATA, has_class_folders, read_image_folder, read_metadata_folder
from mnistnet.data.listing import names_in
from mnistnet.data.npz import read_npz
from mnistnet.errors import DataError

LOOKED_FOR = (
    "MNIST's four IDX files, CSV files, an .npz archive, metadata.json, or one subfolder of pictures a class"
)


def load_data(source: Path) -> Splits:
    """Read a dataset of any form, ready to train on.

    Args:
        source: a folder with MNIST's four IDX files (raw or ``.gz``), with CSV files, with one ``.npz``
            archive, with rsnet's ``metadata.json``, or with one subfolder of pictures for each class; or a
            CSV or ``.npz`` file.

    Returns:
        Training and test part. Where the source has no test part, a seventh of its images, drawn at
        random but always the same, becomes it, and a warning says so.

    Raises:
        DataError: there is no such source, or it cannot be used; one line that begins with the path.
    """
    return find_data(source).splits()


def find_data(source: Path, damaged: list[str] | None = None) -> Found:
    """What a source holds, as `load_data` takes it, before its labels are checked against its classes.

    Args:
        source: see `load_data`.
        damaged: where given, pictures that cannot be read are left out and said here.

    Raises:
        DataError: as `load_data`.
    """
    if not source.exists():
        raise DataError(
            f"{source}: no such file or folder; train with --data mnist to download MNIST, or put the data"
            " there (MNIST's files are at https://ossci-datasets.s3.amazonaws.com/mnist/)"
        )
    if not source.is_dir():
        if is_csv(source.name):
            return read_csv_file(source)
        if source.suffix == ".npz":
            return read_npz(source)
        raise DataError(f"{source}: expected a folder, a .csv, .csv.gz or .npz file; found another file")
    names = names_in(source)
    if has_idx_names(names):
        return read_idx_folder(source)
    if METADATA in names:
        return read_metadata_folder(source, damaged)
    if any(is_csv(name) for name in names):
        return read_csv_folder(source)
    archives = [name for name in names if name.endswith(".npz")]
    if len(archives) == 1:
        return read_npz(source / archives[0])
    if has_class_folders(source):
        return read_image_folder(source, damaged)
    raise DataError(f"{source}: no data here: looked for {LOOKED_FOR}; found {_some(names)}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "an empty folder"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
