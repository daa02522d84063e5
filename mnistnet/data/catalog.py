"""What is known about published datasets: where they are, what they weigh, whose they are. Facts only.

The sources are the datasets' own pages; checksums are of the files as they are published there.
"""

from __future__ import annotations

from dataclasses import dataclass

MNIST = "MNIST"
FASHION_MNIST = "Fashion-MNIST"

_DIGITS = "0123456789"
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class RemoteFile:
    """A file to download."""

    name: str
    checksum: str
    """``md5:…`` or ``sha256:…`` of the file as it is served."""


@dataclass(frozen=True)
class Entry:
    """A dataset that can be downloaded by its name."""

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    """Addresses that end in a slash, to be tried in order."""
    megabytes: int
    """What is downloaded."""
    images: tuple[int, int]
    """Training and test images."""
    class_names: tuple[str, ...]
    licence: str
    split: str | None = None
    """The part of EMNIST's archive that this is."""


def _four(train_images: str, train_labels: str, test_images: str, test_labels: str) -> tuple[RemoteFile, ...]:
    return (
        RemoteFile("train-images-idx3-ubyte.gz", train_images),
        RemoteFile("train-labels-idx1-ubyte.gz", train_labels),
        RemoteFile("t10k-images-idx3-ubyte.gz", test_images),
        RemoteFile("t10k-labels-idx1-ubyte.gz", test_labels),
    )


def _emnist(split: str, images: tuple[int, int], class_names: str) -> Entry:
    return Entry(
        f"emnist-{split}",
        f"EMNIST {split}",
        (RemoteFile("gzip.zip", "md5:58c8d27c78d21e728a6bc7b3cc06412e"),),
        ("https://biometrics.nist.gov/cs_links/EMNIST/",),
        536,
        images,
        tuple(class_names),
        "none stated (NIST)",
        split,
    )


_ENTRIES = (
    Entry(
        "mnist",
        MNIST,
        _four(
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        12,
        (60_000, 10_000),
        tuple(_DIGITS),
        "CC BY-SA 3.0",
    ),
    Entry(
        "fashion-mnist",
        FASHION_MNIST,
        _four(
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
        ),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        31,
        (60_000, 10_000),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        "MIT",
    ),
    Entry(
        "kmnist",
        "Kuzushiji-MNIST",
        _four(
            "md5:bdb82020997e1d708af4cf47b453dcf7",
            "md5:e144d726b3acfaa3e44228e80efcd344",
            "md5:5c965bf0a639b31b8f53240b1b52f4d7",
            "md5:7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        21,
        (60_000, 10_000),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "CC BY-SA 4.0",
    ),
    _emnist("balanced", (112_800, 18_800), _DIGITS + _CAPITALS + "abdefghnqrt"),
    _emnist("digits", (240_000, 40_000), _DIGITS),
    _emnist("letters", (124_800, 20_800), _CAPITALS),
)
CATALOG = {entry.name: entry for entry in _ENTRIES}
"""Every dataset that can be downloaded, by its name on the command line."""

# (dataset, raw size in bytes) by the SHA-256 of a file's raw, that is uncompressed, content
_PUBLISHED = {
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db": (MNIST, 47040016),
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": (MNIST, 60008),
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7": (MNIST, 7840016),
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": (MNIST, 10008),
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888": (FASHION_MNIST, 47040016),
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": (FASHION_MNIST, 60008),
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b": (FASHION_MNIST, 7840016),
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": (FASHION_MNIST, 10008),
}
_SIZES = frozenset(size for _, size in _PUBLISHED.values())


def has_published_size(raw_bytes: int) -> bool:
    """Whether a published file has exactly this size; if none has, its checksum can tell nothing."""
    return raw_bytes in _SIZES


def dataset_of(sha256: str) -> str | None:
    """The title of the dataset that published a file with this SHA-256 (hex, raw content), or None."""
    dataset, _ = _PUBLISHED.get(sha256, (None, 0))
    return dataset


def class_names_of(title: str) -> tuple[str, ...] | None:
    """The class names of the dataset with this title, or None."""
    return next((entry.class_names for entry in _ENTRIES if entry.title == title), None)
