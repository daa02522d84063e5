"""Datasets written in every form in which they are read: the same images and labels come back."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnistnet.data.csv_files import column_names
from mnistnet.data.dataset import CLASSES_FILE, DIGITS, Found, Part
from mnistnet.data.idx import write_idx
from mnistnet.data.image_folder import METADATA
from mnistnet.data.pictures.decode import encode_png
from mnistnet.errors import DataError, OutputError
from mnistnet.files import check_target, temporaries, why_not_written, write_atomically, write_new

_UNSAFE = set('<>:"/\\|?*') | {chr(code) for code in range(32)}


def write_data(found: Found, target: Path, form: str) -> None:
    """Write a dataset, whole or not at all.

    Args:
        found: what to write.
        target: a file for "npz", else a folder; neither may exist.
        form: a key of `FORMS`.

    Raises:
        OutputError: the target exists or cannot be written.
        DataError: the form cannot hold such data.
    """
    if os.path.lexists(target):
        raise OutputError(f"{target}: exists already: choose another path")
    if form == "npz":
        write_atomically(target, _npz(found))
        return
    if max(len(part.images[0]) for part in found.parts) not in (1, 3) and form in ("pictures", "rsnet"):
        raise DataError(f"{found.path}: pictures have 1 or 3 channels, found {found.train.images.shape[1]}")
    check_target(target)
    try:
        temporary = _temporary_folder(target)
        try:
            FORMS[form](found, temporary)
            if found.class_names not in (None, DIGITS):
                write_atomically(temporary / CLASSES_FILE, _lines(found.class_names or ()))
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{target}: {why_not_written(error, target)}; nothing is left") from error
    except OutputError as error:  # about a file in the temporary folder
        raise OutputError(str(error).replace(str(temporary), str(target))) from error


def _temporary_folder(target: Path) -> Path:
    """A new folder in the same folder as ``target``, so that it can be renamed."""
    for temporary in temporaries(target):
        try:
            temporary.mkdir()
            break
        except FileExistsError:  # what a killed process left that had our process id, as in a container
            continue
    return temporary


def _lines(texts: tuple[str, ...] | list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def _idx(found: Found, folder: Path) -> None:
    if found.test is None:
        # a folder of IDX files has both parts: the same that training would take
        splits = found.splits()
        parts = [(splits.train.images, splits.train.labels), (splits.test.images, splits.test.labels)]
    else:
        parts = [(part.images, part.labels) for part in found.parts]
    for prefix, (images, labels) in zip(("train", "t10k"), parts, strict=True):
        grey = images[:, 0] if images.shape[1] == 1 else images
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", grey)
        small = labels.astype(np.uint8 if labels.min() >= 0 and labels.max() <= 255 else np.int32)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", small)


def _csv(found: Found, folder: Path) -> None:
    numbers = [str(number) for number in range(256)]
    for name, part in zip(("train", "test"), found.parts, strict=False):
        if part.labels.min() < 0 or part.labels.max() > 255:
            raise DataError(f"{part.labels_path}: CSV holds labels of 0 to 255")
        table = np.column_stack([part.labels, part.images.reshape(len(part.images), -1)])
        lines = [column_names(part.images.shape[1:])]
        lines += [",".join([numbers[value] for value in row]) for row in table.tolist()]
        write_atomically(folder / f"{name}.csv", _lines(lines))


def _pictures(found: Found, folder: Path) -> None:
    names = _folder_names(found)
    for name, part in zip(("train", "test"), found.parts, strict=False):
        for each in names:
            (folder / name / each).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            # numbered across the classes, so that the order can be read back
            path = folder / name / names[label] / f"{_number(number, part)}.png"
            write_new(path, encode_png(image))


def _rsnet(found: Found, folder: Path) -> None:
    document: dict[str, dict[str, list[str]]] = {}
    for name, part in zip(("train", "test"), found.parts, strict=False):
        (folder / name).mkdir()
        classes: dict[str, list[str]] = {}
        for number, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            path = f"{name}/{_number(number, part)}.png"
            write_new(folder / path, encode_png(image))
            classes.setdefault(str(label + 1), []).append(path)
        document[name] = dict(sorted(classes.items(), key=lambda item: int(item[0])))
    write_atomically(folder / METADATA, json.dumps(document, indent=1).encode())
    if found.class_names in (None, DIGITS):
        # the labels there count from 1 and would else be the names
        write_atomically(folder / CLASSES_FILE, _lines(DIGITS))


def _npz(found: Found) -> bytes:
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for prefix, part in zip(("", "test_"), found.parts, strict=False):
        arrays[f"{prefix}images"] = part.images
        arrays[f"{prefix}labels"] = part.labels.astype(np.int64)
    if found.class_names is not None:
        arrays["class_names"] = np.array(found.class_names)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


FORMS: dict[str, Callable[[Found, Path], None]] = {
    "idx": _idx,
    "csv": _csv,
    "pictures": _pictures,
    "rsnet": _rsnet,
}
"""How a form is written into an empty folder; "npz" is a file and has no folder."""


def _folder_names(found: Found) -> tuple[str, ...]:
    """The class names where every system can have folders of such names, else the labels."""
    names = found.class_names or DIGITS
    found_labels = max(int(part.labels.max()) for part in found.parts)
    if found_labels >= len(names) or min(int(part.labels.min()) for part in found.parts) < 0:
        raise DataError(f"{found.path}: label {found_labels} has no class: expected 0 to {len(names) - 1}")
    safe = all(name.strip(" .") == name and not _UNSAFE & set(name) for name in names)
    if safe and len({name.casefold() for name in names}) == len(names):
        return names
    return tuple(str(label) for label in range(len(names)))


def _number(number: int, part: Part) -> str:
    return f"{number:0{len(str(len(part.labels) - 1))}}"
