"""What ``import mnistnet`` offers, and that it costs nothing until it is used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import mnistnet
from mnistnet import SGD, Classifier, Dataset, Trainer, TrainingConfig, build, evaluate


def test_every_public_name_is_its_home_modules() -> None:
    assert sorted(mnistnet.__all__) == sorted([*mnistnet._HOME_OF, "__version__"])
    for name, home in mnistnet._HOME_OF.items():
        assert getattr(mnistnet, name) is getattr(import_module(home), name)
    assert dir(mnistnet) == sorted(mnistnet.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mnistnet' has no attribute 'nonsense'"):
        mnistnet.nonsense  # noqa: B018


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, mnistnet; sys.exit('numpy' in sys.modules or 'mnistnet.engine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_docstrings_example_in_small() -> None:
    """Two classes that differ in where the ink is: learned in a few steps through the public API alone."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = np.zeros((256, 1, 12, 12), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 6 * label : 6 * label + 6] = rng.integers(100, 256, (12, 6))
    data = Dataset(images, labels.astype(np.intp), ("left", "right"))
    classifier = Classifier(build("mlp", (1, 12, 12), classes=2).initialize(seed=0), data.class_names)
    config = TrainingConfig(nb_epochs=3, batch_size=32, optimizer=SGD(0.9))
    results = list(Trainer(classifier, config).run(data.first(200)))
    assert evaluate(classifier, data).accuracy == 1.0
    assert len(results) == 3 * 7 + 3


def test_the_version_is_the_projects() -> None:
    metadata = import_module("importlib.metadata")
    assert metadata.version("mnistnet") == mnistnet.__version__
    assert (Path(mnistnet.__file__).parent / "py.typed").exists()
