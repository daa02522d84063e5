"""What ``import mnistnet`` offers, and that it costs nothing until it is used."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import mnistnet
from mnistnet import SGD, Classifier, Dataset, Trainer, TrainingConfig, build, evaluate
from mnistnet.data.augmentation import AUGMENTATIONS
from mnistnet.engine.layers import LAYER_KINDS
from mnistnet.engine.losses import LOSSES
from mnistnet.engine.optimizers import OPTIMIZERS
from mnistnet.engine.schedules import SCHEDULES

README = Path(__file__).parents[1] / "README.md"


def test_every_public_name_is_its_home_modules() -> None:
    assert sorted(mnistnet.__all__) == sorted([*mnistnet._HOME_OF, "__version__"])
    for name, home in mnistnet._HOME_OF.items():
        assert getattr(mnistnet, name) is getattr(import_module(home), name)
    assert dir(mnistnet) == sorted(mnistnet.__all__)


@pytest.mark.parametrize("registry", [LAYER_KINDS, LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTATIONS])
def test_whatever_a_training_is_put_together_from_is_public(registry: dict[str, type]) -> None:
    ours = {kind.__name__ for kind in registry.values() if kind.__module__.startswith("mnistnet.")}
    assert ours <= set(mnistnet.__all__)


def test_what_its_functions_take_and_raise_is_public() -> None:
    wanted = {"Transform", "Ensemble", "load_onnx", "DataError", "DivergedError"}
    assert wanted | {"saved_state", "trainer_state"} <= set(mnistnet.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mnistnet' has no attribute 'nonsense'"):
        mnistnet.nonsense  # noqa: B018


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, mnistnet; sys.exit('numpy' in sys.modules or 'mnistnet.engine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def left_and_right() -> Dataset:
    """Two classes that differ in where the ink is."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = np.zeros((256, 1, 12, 12), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 6 * label : 6 * label + 6] = rng.integers(100, 256, (12, 6))
    return Dataset(images, labels.astype(np.intp), ("left", "right"))


def test_the_docstrings_example_in_small() -> None:
    """Learned in a few steps through the public API alone."""
    data = left_and_right()
    classifier = Classifier(build("mlp", (1, 12, 12), classes=2).initialize(seed=0), data.class_names)
    config = TrainingConfig(nb_epochs=3, batch_size=32, optimizer=SGD(0.9))
    results = list(Trainer(classifier, config).run(data.first(200)))
    assert evaluate(classifier, data).accuracy == 1.0
    assert len(results) == 3 * 7 + 3


def test_the_readmes_resume_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines as they are, between the two halves of a training with everything that a state can hold."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    (block,) = (block for block in blocks if "trainer_state" in block)
    first, state, resumed = block.partition("trainer = ")[0], *block.split("trainer = ")[1:]
    monkeypatch.chdir(tmp_path)
    data = left_and_right()
    train, validation = data.split(0.2, seed=1)

    def fresh() -> Classifier:
        return Classifier(build("mlp", (1, 12, 12), classes=2).initialize(seed=0), data.class_names)

    config = TrainingConfig(learning_rate=0.01, nb_epochs=3, batch_size=32, average_decay=0.9)
    whole = Trainer(fresh(), config)
    results = list(whole.run(train, validation))
    names = {"Trainer": Trainer, "classifier": fresh(), "config": config}
    creation, saving = state.split("\n", 1)
    exec(f"{first}trainer = {creation}", names)
    run = names["trainer"].run(train, validation)
    before = [next(run) for _ in range(11)]
    exec(saving, names)
    run.close()
    exec(f"trainer = {resumed}", names)
    trainer = names["trainer"]
    after = list(trainer.run(train, validation))
    assert len(before) + len(after) == len(results)
    assert after[-1].validation_loss == results[-1].validation_loss
    for name, vector in whole.state().vectors.items():
        assert vector.tobytes() == trainer.state().vectors[name].tobytes()


def test_the_version_is_the_projects() -> None:
    metadata = import_module("importlib.metadata")
    assert metadata.version("mnistnet") == mnistnet.__version__
    assert (Path(mnistnet.__file__).parent / "py.typed").exists()
