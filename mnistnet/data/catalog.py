"""What is known about published datasets."""

from __future__ import annotations

MNIST = "MNIST"
FASHION_MNIST = "Fashion-MNIST"

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
    """The name of the dataset that published a file with this SHA-256 (hex, raw content), or None."""
    dataset, _ = _PUBLISHED.get(sha256, (None, 0))
    return dataset
