"""The dataset doctor: what is wrong with a dataset, and what of it can be mended safely.

Each examination looks at what the one before has mended, so that images that are both inverted and turned
are found to be both. Nothing is guessed: an examination speaks up only where the numbers are far from what
sound data give, and says which numbers they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnistnet.data.dataset import DIGITS, MOST_CLASSES, Found, Part
from mnistnet.data.idx import by, read_idx
from mnistnet.data.idx_folder import has_idx_names, idx_files
from mnistnet.data.listing import names_in
from mnistnet.data.pictures.decode import resized
from mnistnet.data.pictures.planes import MOSTLY_LIGHT, has_light_ground
from mnistnet.data.sources import find_data
from mnistnet.errors import DataError

MEAN_DIGITS = "digit-means-idx3-ubyte.gz"
"""The mean image of each digit of MNIST's training set, (10, 28, 28)."""
_SHOWN = 5
_WIDER = 0.5  # share of wide images less that of tall ones: -0.69 in MNIST, -0.28 in Fashion-MNIST
_LIKER = 0.2  # what turning adds to the mean digits' correlation: 0.43 in MNIST transposed
_UNEVEN = 10  # the largest class by the smallest


@dataclass(frozen=True, eq=False)
class Finding:
    """Something that is wrong with a dataset."""

    text: str
    mended: Found | None = None
    """The dataset without it; None where that cannot be done safely."""
    repair: str = ""
    """What was done for that, in plain words."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor has to say."""

    found: Found | None
    """The dataset as it is; None where it cannot be read."""
    mended: Found | None
    """The dataset with every safe repair."""
    findings: tuple[Finding, ...]


def examine(source: Path) -> Diagnosis:
    """Look a dataset over.

    Args:
        source: as for `load_data`.

    Returns:
        What was found. Files that cannot be read are findings, each with its name.
    """
    damaged: list[str] = []
    try:
        found = find_data(source, damaged=damaged)
    except DataError as error:
        return Diagnosis(None, None, tuple(Finding(text) for text in (*damaged, *_unreadable(source, error))))
    findings = [Finding(text, found, "left out") for text in damaged]
    findings += [Finding(text) for text in found.warnings]
    mended = found
    for examination in _EXAMINATIONS:
        for finding in examination(mended):
            findings.append(finding)
            mended = finding.mended or mended
    return Diagnosis(found, mended, tuple(findings))


def class_counts(part: Part, classes: int) -> npt.NDArray[np.intp]:
    """How many images there are of each label, (classes,); labels beyond are not counted."""
    inside = part.labels[(part.labels >= 0) & (part.labels < classes)]
    return np.bincount(inside, minlength=classes)


def class_names(found: Found) -> tuple[str, ...]:
    """The names of the classes: the data's own, digits, or as many numbers as there may be labels."""
    if found.class_names is not None:
        return found.class_names
    highest = max(int(part.labels.max()) for part in found.parts)
    beyond = len(DIGITS) <= highest < MOST_CLASSES
    return tuple(str(label) for label in range(highest + 1)) if beyond else DIGITS


def _unreadable(source: Path, error: DataError) -> list[str]:
    """Every damaged file of a folder of IDX files, and not only the first."""
    texts = [str(error)]
    if source.is_dir() and has_idx_names(names_in(source)):
        try:
            paths = list(idx_files(source).values())
        except DataError:
            return texts
        for path in paths:
            try:
                read_idx(path)
            except DataError as other:
                texts.append(str(other))
    return list(dict.fromkeys(texts))


# --- the examinations, in the order in which they are made ------------------------------------------------


def _shapes(found: Found) -> Iterator[Finding]:
    """Test images that a network for the training images cannot take."""
    train, test = found.parts[0].images.shape[1:], found.parts[-1].images.shape[1:]
    if train != test:
        _, h, w = train
        advice = f"; mnistnet data convert --size {w}x{h} makes them one size" if train[0] == test[0] else ""
        yield Finding(f"test: images of {by(test)}, expected {by(train)} like the training images{advice}")


def _labels(found: Found) -> Iterator[Finding]:
    """Labels that count from 1, or beyond the classes."""
    lowest = min(int(part.labels.min()) for part in found.parts)
    highest = max(int(part.labels.max()) for part in found.parts)
    classes = len(found.class_names or DIGITS)
    most = MOST_CLASSES if found.class_names is None else classes
    if lowest == 1 and classes <= highest <= most:
        names = found.class_names or (
            DIGITS if highest == classes else tuple(str(label) for label in range(1, highest + 1))
        )
        shifted = found.changed(lambda part: replace(part, labels=part.labels - 1))
        yield Finding(
            f"labels are off by one: they run from 1 to {highest}, expected from 0",
            replace(shifted, class_names=names),
            "1 taken from every label",
        )
    elif lowest < 0 or highest >= classes:
        yield Finding(
            f"labels run from {lowest} to {highest}, but there are {classes} classes:"
            " a classes.txt with all names, one a line, would say what they are"
        )


def _range(found: Found) -> Iterator[Finding]:
    """Pixels that use only the darkest of 255 levels."""
    highest = max(int(part.images.max()) for part in found.parts)
    if highest == 0:
        yield Finding("every pixel of every image is 0")
    elif highest == 1:
        yield Finding(
            "pixels are 0 and 1 only, expected 0 to 255",
            found.changed(lambda part: replace(part, images=part.images * np.uint8(255))),
            "every pixel multiplied by 255",
        )
    elif highest < 64:
        yield Finding(f"pixels are 0 to {highest} only, expected 0 to 255: the images are very dark")


def _inverted(found: Found) -> Iterator[Finding]:
    """Dark ink on a light ground, where networks for digits expect it bright on dark."""
    if found.train.images.shape[1] != 1:
        return
    share = float(np.mean(has_light_ground(found.train.images[:, 0])))
    if share >= MOSTLY_LIGHT:
        yield Finding(
            f"inverted: {share:.0%} of the images have a light ground, expected bright ink on dark",
            found.changed(lambda part: replace(part, images=255 - part.images)),
            "every pixel taken from 255",
        )


def _transposed(found: Found) -> Iterator[Finding]:
    """Rows and columns swapped, as in EMNIST's own files."""
    _, c, h, w = found.train.images.shape
    if c != 1:
        return
    turned = found.changed(
        lambda part: replace(part, images=np.ascontiguousarray(part.images.transpose(0, 1, 3, 2)))
    )
    if class_names(found)[: len(DIGITS)] == DIGITS and (likeness := _likeness(found)) is not None:
        upright, transposed = likeness
        if transposed > upright + _LIKER:
            yield Finding(
                f"transposed: the mean digits are like MNIST's to {upright:.2f} as they are and to"
                f" {transposed:.2f} with rows and columns swapped",
                turned,
                "rows and columns swapped",
            )
        return
    wider = _wider(found.train.images[:, 0])
    if h == w and wider > _WIDER:
        yield Finding(
            f"perhaps transposed: {(1 + wider) / 2:.0%} of the images hold something wider than tall, which"
            " handwriting seldom is; look at --sheet"
        )


def _likeness(found: Found) -> tuple[float, float] | None:
    """Mean correlation of the digits' mean images with MNIST's: as they are, and transposed."""
    with resources.as_file(resources.files("mnistnet.data") / MEAN_DIGITS) as path:
        wanted = read_idx(path)
    correlations = []
    for label, mean in enumerate(wanted):
        images = found.train.images[found.train.labels == label, 0]
        if len(images) == 0:
            continue
        own = np.rint(images.mean(axis=0)).astype(np.uint8)
        own = resized(own[np.newaxis], mean.shape)[0]
        if own.max() == own.min():
            return None
        correlations.append([np.corrcoef(each.ravel(), mean.ravel())[0, 1] for each in (own, own.T)])
    if not correlations:
        return None
    upright, transposed = np.mean(correlations, axis=0)
    return float(upright), float(transposed)


def _wider(images: npt.NDArray[np.uint8]) -> float:
    """The share of images whose ink is wider than tall, less the share of those taller than wide."""
    ink = images > 64
    height, width = ink.any(axis=2).sum(axis=1), ink.any(axis=1).sum(axis=1)
    return float(np.mean(width > height) - np.mean(height > width))


def _blank(found: Found) -> Iterator[Finding]:
    for part in found.parts:
        flat = part.images.reshape(len(part.images), -1)
        blank = np.flatnonzero(flat.max(axis=1) == flat.min(axis=1))
        if blank.size:
            yield Finding(f"{_name(found, part)}: {_count(blank.size, 'blank image')}, at {_some(blank)}")


def _duplicates(found: Found) -> Iterator[Finding]:
    """The same image more than once: in both parts, or with two labels."""
    train = _places(found.train)
    torn = [places for places in train.values() if len(set(found.train.labels[places].tolist())) > 1]
    if torn:
        first = ", ".join(f"{index} is {found.train.labels[index]}" for index in torn[0][:_SHOWN])
        yield Finding(f"train: {_count(len(torn), 'image')} with more than one label, such as: {first}")
    extra = len(found.train.labels) - len(train)
    if extra:
        yield Finding(f"train: {_count(extra, 'image')} that are there already")
    if found.test is None:
        return
    test = _places(found.test)
    shared = [places for digest, places in train.items() if digest in test]
    leaked = np.sort(np.concatenate(shared)) if shared else np.empty(0, np.intp)
    if leaked.size:
        kept = np.ones(len(found.train.labels), np.bool_)
        kept[leaked] = False
        train_part = replace(found.train, images=found.train.images[kept], labels=found.train.labels[kept])
        yield Finding(
            f"{_count(leaked.size, 'training image')} that are in the test part too: {_some(leaked)}",
            replace(found, train=train_part) if kept.any() else None,
            "taken out of the training part",
        )


def _places(part: Part) -> dict[bytes, list[int]]:
    """The indices of the images by their content."""
    places: dict[bytes, list[int]] = {}
    for index, image in enumerate(part.images):
        places.setdefault(hashlib.blake2b(image.data, digest_size=16).digest(), []).append(index)
    return places


def _one_class(found: Found) -> Iterator[Finding]:
    """Nothing to tell apart, as where the folders of the classes are a level too deep."""
    if all((part.labels == found.train.labels[0]).all() for part in found.parts):
        yield Finding("all images are of one class, expected at least two classes")


def _balance(found: Found) -> Iterator[Finding]:
    names = class_names(found)
    for part in found.parts:
        counts = class_counts(part, len(names))
        missing = [names[label] for label in np.flatnonzero(counts == 0)]
        if missing:
            yield Finding(f"{_name(found, part)}: no images of {', '.join(missing[:_SHOWN])}{_more(missing)}")
        there = counts[counts > 0]
        if there.size and there.max() > _UNEVEN * there.min():
            most, fewest = names[counts.argmax()], names[np.where(counts > 0, counts, counts.max()).argmin()]
            yield Finding(
                f"{_name(found, part)}: uneven: {there.max()} images of {most}, {there.min()} of {fewest}"
            )


_EXAMINATIONS: tuple[Callable[[Found], Iterator[Finding]], ...] = (
    _shapes,
    _labels,
    _range,
    _inverted,
    _transposed,
    _blank,
    _duplicates,
    _one_class,
    _balance,
)


def _name(found: Found, part: Part) -> str:
    return "train" if part is found.train else "test"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _some(indices: npt.NDArray[np.intp]) -> str:
    return f"{', '.join(map(str, indices[:_SHOWN].tolist()))}{_more(indices)}"


def _more(items: npt.NDArray[np.intp] | list[str]) -> str:
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
