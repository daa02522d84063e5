"""What is written in any form is read back the same."""

from __future__ import annotations

import os

import numpy as np
import pytest
from data_helpers import images, labels

from mnistnet.data.convert import FORMS, write_data
from mnistnet.data.dataset import Found, Part
from mnistnet.data.sources import find_data
from mnistnet.errors import DataError, OutputError

EVERY = [*FORMS, "npz"]


def found(tmp_path, channels=1, names=None, classes=10) -> Found:
    rng = np.random.default_rng(0)
    parts = [
        Part(
            rng.integers(0, 256, (count, channels, 4, 3), np.uint8),
            rng.integers(0, classes, count),
            tmp_path,
            tmp_path,
        )
        for count in (23, 11)
    ]
    return Found(tmp_path, "idx", parts[0], parts[1], names)


def same(one: Found, other: Found, *, ordered: bool) -> bool:
    def content(part: Part) -> list[tuple[int, bytes]]:
        pairs = [(int(label), image.tobytes()) for image, label in zip(part.images, part.labels, strict=True)]
        return pairs if ordered else sorted(pairs)

    shapes = one.train.images.shape == other.train.images.shape
    return shapes and all(content(a) == content(b) for a, b in zip(one.parts, other.parts, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", EVERY)
def test_round_trip(tmp_path, form, channels):
    before = found(tmp_path, channels)
    target = tmp_path / ("new.npz" if form == "npz" else "new")
    write_data(before, target, form)
    after = find_data(target)
    assert after.form == form
    assert same(before, after, ordered=form != "rsnet")
    assert after.splits().train.class_names == tuple("0123456789")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("names", [("cat", "dog", "eel"), ("T-shirt/top", "a", "A")], ids=["safe", "not"])
@pytest.mark.parametrize("form", EVERY)
def test_class_names_survive(tmp_path, form, names):
    before = found(tmp_path, names=names, classes=3)
    target = tmp_path / ("new.npz" if form == "npz" else "new")
    write_data(before, target, form)
    after = find_data(target)
    assert after.class_names == names
    assert same(before, after, ordered=form != "rsnet")
    if form == "pictures":
        folders = {path.name for path in (target / "train").iterdir()}
        assert folders == (set(names) if names[0] == "cat" else {"0", "1", "2"})


@pytest.mark.parametrize("form", ["csv", "pictures", "rsnet", "npz"])
def test_without_a_test_part(tmp_path, form):
    before = Found(tmp_path, "idx", Part(images(7, 3, 2)[:, None], labels(7), tmp_path, tmp_path), None, None)
    target = tmp_path / ("new.npz" if form == "npz" else "new")
    write_data(before, target, form)
    assert same(before, find_data(target), ordered=True)


def test_idx_gets_the_test_part_that_training_would_take(tmp_path):
    part = Part(images(14, 3, 2)[:, None], labels(14).astype(np.intp), tmp_path, tmp_path)
    before = Found(tmp_path, "npz", part, None, None)
    write_data(before, tmp_path / "new", "idx")
    assert np.array_equal(find_data(tmp_path / "new").splits().test.images, before.splits().test.images)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "there").mkdir()
    for form in EVERY:
        with pytest.raises(OutputError, match="exists already: choose another path"):
            write_data(found(tmp_path), tmp_path / "there", form)
    assert list((tmp_path / "there").iterdir()) == []


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mnistnet.data.convert.encode_png", full)
    with pytest.raises(OutputError, match=r"no space left on the device.*; nothing is left"):
        write_data(found(tmp_path), tmp_path / "new", "pictures")
    with pytest.raises(DataError, match="pictures have 1 or 3 channels, found 2"):
        write_data(found(tmp_path, channels=2), tmp_path / "new", "rsnet")
    with pytest.raises(OutputError, match="does not exist: create it first"):
        write_data(found(tmp_path), tmp_path / "missing" / "new", "csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_what_a_killed_one_left_is_in_nobodys_way(tmp_path, form):
    """Its process id may be ours: in a container every run may have the same."""
    leftover = tmp_path / f".new.{os.getpid()}-0.mnistnet-tmp"
    leftover.mkdir()
    write_data(found(tmp_path), tmp_path / "new", form)
    assert find_data(tmp_path / "new").form == form
    assert sorted(tmp_path.iterdir()) == [leftover, tmp_path / "new"]


def test_another_size_of_the_test_part_alone(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (9, 8, 6), np.uint8),
        "labels": np.arange(9),
        "test_images": rng.integers(0, 256, (5, 4, 3), np.uint8),
        "test_labels": np.arange(5),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    after = find_data(tmp_path / "a.npz", size=(8, 6)).splits()
    assert np.array_equal(after.train.images[:, 0], arrays["images"])
    assert after.test.images.shape == (5, 1, 8, 6)


@pytest.mark.parametrize("form", EVERY)
def test_another_size(tmp_path, form):
    before = found(tmp_path)
    target = tmp_path / ("new.npz" if form == "npz" else "new")
    write_data(before, target, form)
    after = find_data(target, size=(8, 6))
    assert after.train.images.shape == (23, 1, 8, 6)
    assert after.test.images.shape == (11, 1, 8, 6)
    mean = before.train.images.mean(axis=(1, 2, 3))
    if form != "rsnet":
        assert np.abs(after.train.images.mean(axis=(1, 2, 3)) - mean).max() < 12


def test_the_same_data_in_every_form_trains_the_same_network(tmp_path):
    """Bit for bit, through one step of training."""
    from mnistnet import Classifier, Trainer, TrainingConfig, build

    before = found(tmp_path)
    weights = set()
    for form in ("idx", "csv", "pictures", "npz"):
        target = tmp_path / ("new.npz" if form == "npz" else form)
        write_data(before, target, form)
        train = find_data(target).splits().train
        classifier = Classifier(build("mlp", train.shape).initialize(seed=0), train.class_names)
        config = TrainingConfig(nb_epochs=1, batch_size=8, workers=1)
        list(Trainer(classifier, config).run(train))
        weights.add(b"".join(value.tobytes() for value in classifier.network.parameters().values()))
    assert len(weights) == 1
