"""What is known about published datasets."""

from __future__ import annotations

import gzip
import hashlib

from data_helpers import DATA, NAMES

from mnistnet.data.catalog import dataset_of, has_published_size


def test_catalog():
    digest = hashlib.sha256(gzip.decompress((DATA / f"{NAMES[3]}.gz").read_bytes())).hexdigest()
    assert dataset_of(digest) == "MNIST"
    assert dataset_of("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34") == "Fashion-MNIST"
    assert dataset_of("0" * 64) is None
    assert has_published_size(7840016)
    assert not has_published_size(7840017)
