"""Folders of pictures: one subfolder a class, or a list of files in metadata.json as rsnet has it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnistnet.data.dataset import CLASSES_FILE, DIGITS, MOST_CLASSES, Found, Part, read_class_names
from mnistnet.data.listing import names_in, natural
from mnistnet.data.pictures.decode import SUFFIXES, image_pixels, resized
from mnistnet.errors import DataError, PictureError
from mnistnet.files import read_limited

Size = tuple[int, int]
METADATA = "metadata.json"
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
_LONGEST_PATH = 1024
_MOST_BYTES = 1 << 28


class _File(NamedTuple):
    path: Path
    label: int


def is_picture(name: str) -> bool:
    """Whether a file name is that of a picture."""
    return name.lower().endswith(SUFFIXES)


def has_class_folders(folder: Path) -> bool:
    """Whether a folder has subfolders with pictures, directly or below ``train``."""
    return bool(_class_folders(folder) or _train_folders(folder))


def read_image_folder(folder: Path, damaged: list[str] | None = None, size: Size | None = None) -> Found:
    """Read a folder with one subfolder of pictures for each class, below ``train`` and ``test`` or alone.

    A ``train`` without such subfolders of its own is a class. Classes are in natural order of the
    subfolders' names, those of both parts together; names that are all digits 0 to 9 keep their own labels.
    A ``classes.txt`` states classes and their order; its subfolders are named by them, or by their labels.
    Images are in natural order of their file names, whatever their class, so that numbered files keep the
    order they were numbered in. Greyscale files give one channel; if any picture is in colour, all have
    three.

    Args:
        folder: the folder.
        damaged: where given, pictures that cannot be read are left out and said here.
        size: (H, W) to bring every picture to.

    Raises:
        DataError: no pictures, a picture that cannot be read, or pictures of different sizes.
    """
    train_folders = _train_folders(folder)
    train_folder = train_folders[0] if train_folders else folder
    test_folder = next(iter(_part_folders(folder, TEST_FOLDERS)), None) if train_folders else None
    parts = [part for part in (train_folder, test_folder) if part is not None]
    folders = [_class_folders(part) for part in parts]
    names = read_class_names(folder)
    labels, names = _labels(folder, {name for part in folders for name in part}, names)
    read = []
    for part, classes in zip(parts, folders, strict=True):
        files = [
            _File(part / name / file, labels[name]) for name in classes for file in _pictures(part / name)
        ]
        files.sort(key=lambda file: (natural(file.path.name), file.label))
        read.append(_read_part(part, files, damaged, size))
    return _found(folder, "pictures", read, names)


def read_metadata_folder(folder: Path, damaged: list[str] | None = None, size: Size | None = None) -> Found:
    """Read a folder with rsnet's ``metadata.json``: ``{"train": {"1": ["a.png", …], …}, "test": {…}}``.

    Paths are relative to the folder, labels count from 1 and are the class names unless a ``classes.txt``
    gives others. Images are in the order of the file.

    Args:
        folder: the folder.
        damaged: where given, pictures that cannot be read are left out and said here.
        size: (H, W) to bring every picture to.

    Raises:
        DataError: the file is not of this form, a path leaves the folder, or a picture cannot be used.
    """
    path = folder / METADATA
    try:
        document = json.loads(read_limited(path, _MOST_BYTES, DataError).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON, found a mistake: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("train"), dict):
        raise DataError(f'{path}: expected {{"train": {{"1": ["path.png", …], …}}, "test": {{…}}}}')
    parts = [(key, list(_listed(path, key, document[key]))) for key in ("train", "test") if document.get(key)]
    if not parts or parts[0][0] != "train":
        raise DataError(f"{path}: train: empty dataset: no pictures are listed")
    classes = max((file.label for _, files in parts for file in files), default=0) + 1
    names = read_class_names(folder) or tuple(str(number) for number in range(1, classes + 1))
    read = [_read_part(path, files, damaged, size) for _, files in parts]
    return _found(folder, "rsnet", read, names)


def _found(folder: Path, form: str, read: list[Part], names: tuple[str, ...]) -> Found:
    """One or two parts; where only one is in colour, the other gets three equal channels."""
    found = Found(folder, form, read[0], read[1] if len(read) > 1 else None, names)
    c = max(part.images.shape[1] for part in read)

    def widened(part: Part) -> Part:
        return part if part.images.shape[1] == c else replace(part, images=part.images.repeat(c, axis=1))

    return found.changed(widened)


def _train_folders(folder: Path) -> list[Path]:
    """The folders that are a training part, and not a class that is called so."""
    return [part for part in _part_folders(folder, TRAIN_FOLDERS) if _class_folders(part)]


def _part_folders(folder: Path, names: tuple[str, ...]) -> list[Path]:
    present = {name.lower(): name for name in names_in(folder) if (folder / name).is_dir()}
    return [folder / present[name] for name in names if name in present]


def _class_folders(folder: Path) -> list[str]:
    """The subfolders of a part that hold pictures, and the empty ones: a class may have none."""
    folders = [name for name in names_in(folder) if (folder / name).is_dir()]
    if not any(_pictures(folder / name) for name in folders):
        return []
    return [name for name in folders if _pictures(folder / name) or not names_in(folder / name)]


def _pictures(folder: Path) -> list[str]:
    return [name for name in names_in(folder) if is_picture(name)]


def _labels(
    folder: Path, found: set[str], stated: tuple[str, ...] | None
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The label of each subfolder's name, and the names of all classes."""
    if not found:
        raise DataError(f"{folder}: expected subfolders with pictures, one for each class, found none")
    if stated is None:
        # so that a missing digit does not shift the others
        names = DIGITS if found <= set(DIGITS) else tuple(sorted(found, key=natural))
        return {name: label for label, name in enumerate(names)}, names
    by_name = {name: label for label, name in enumerate(stated)}
    by_number = {str(label): label for label in range(len(stated))}
    for labels in (by_name, by_number):
        if found <= set(labels):
            return labels, stated
    strange = min(found - set(by_name), key=natural)
    raise DataError(f"{folder / strange}: expected a class of {CLASSES_FILE}, found another subfolder")


def _listed(path: Path, part: str, classes: object) -> Iterable[_File]:
    """The files of a part as metadata.json lists them, class after class."""
    if not isinstance(classes, dict):
        raise DataError(f"{path}: {part}: expected an object of lists by label, found {classes!r:.40}")
    folder = path.parent
    inside = folder.resolve()
    for label, names in sorted(classes.items(), key=lambda item: natural(item[0])):
        where = f"{path}: {part}.{label:.60}"
        if not (label.isascii() and label.isdigit() and label.strip("0")):
            raise DataError(f"{where}: labels start at 1, found {label!r:.60}")
        if len(label) > 9 or int(label) > MOST_CLASSES:
            raise DataError(f"{where}: expected a label of at most {MOST_CLASSES}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: expected a list of paths")
        for name in names:
            if len(name) > _LONGEST_PATH:
                raise DataError(f"{where}: expected a path of at most {_LONGEST_PATH} characters")
            try:
                leaves = not (folder / name).resolve().is_relative_to(inside)
            except (OSError, ValueError) as error:  # a null character, a lone surrogate, too long
                raise DataError(f"{where}: expected a path, found {name!r:.200}") from error
            if leaves:
                raise DataError(f"{where}: path leaves the folder: {name!r:.200}")
            yield _File(folder / name, int(label) - 1)


def _read_part(where: Path, files: list[_File], damaged: list[str] | None, size: Size | None) -> Part:
    if not files:
        raise DataError(f"{where}: empty dataset: no pictures")
    images, read = [], []
    for file in files:
        try:
            image = image_pixels(read_limited(file.path, _MOST_BYTES, PictureError))
            images.append(image if size is None else resized(image, size))
            read.append(file)
        except PictureError as error:
            # the system's own errors name the path already
            said = str(error) if str(error).startswith(f"{file.path}: ") else f"{file.path}: {error}"
            if damaged is None:
                raise DataError(said) from error
            damaged.append(said)
    if not images:
        raise DataError(f"{where}: none of its {len(files)} pictures can be read")
    labels = np.array([file.label for file in read], np.intp)
    return Part(_stacked(images, read), labels, where, where)


def _stacked(images: list[npt.NDArray[np.uint8]], files: list[_File]) -> npt.NDArray[np.uint8]:
    """The images as one array; grey ones among coloured ones get three equal channels."""
    c = max(len(image) for image in images)
    h, w = images[0].shape[1:]
    stacked = np.empty((len(images), c, h, w), np.uint8)
    for index, image in enumerate(images):
        if image.shape[1:] != (h, w):
            raise DataError(
                f"{files[index].path}: expected {w}x{h} pixels like {files[0].path.name}, found "
                f"{image.shape[2]}x{image.shape[1]}; mnistnet data convert --size {w}x{h} makes them one size"
            )
        stacked[index] = image
    return stacked
