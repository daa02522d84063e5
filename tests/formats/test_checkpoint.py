"""Checkpoints: what goes in comes out, the bytes are what the contract says, folders are searched."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mnistnet.engine.arrays import PixelScale, Shape
from mnistnet.engine.layers import (
    GELU,
    LAYER_KINDS,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FourierFeatures,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Sine,
    Softmax,
    Tanh,
    ZeroPad2d,
)
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, OutputError
from mnistnet.formats import (
    Checkpoint,
    find_checkpoint,
    load_architecture,
    load_checkpoint,
    save_checkpoint,
)
from mnistnet.formats.checkpoint import (
    SavedState,
    decode_architecture,
    decode_checkpoint,
    encode_checkpoint,
)
from mnistnet.models import MODELS, Classifier, build

DOCUMENT = Path(__file__).parents[2] / "docs" / "checkpoint-format.md"
DIGITS = tuple("0123456789")
TRAINING = {
    "epoch": 3,
    "learning_rate": 0.05,
    "seed": 2**70,
    "note": None,
    "checksum": ["cosine", True],  # only the last key of this name is the file's own
}


def tiny(seed: int = 0) -> Checkpoint:
    """Every layer there is, non-square where it can be, random biases."""
    layers: list[Layer] = [
        Conv2d(2, (3, 2), stride=(2, 1), padding=(1, 0)),
        ReLU(),
        MaxPool2d((2, 2), stride=(1, 1), padding=(1, 1)),
        Flatten(),
        Dense(3),
        BatchNorm(epsilon=0.5, momentum=0.25),
        LeakyReLU(0.125),
        Dropout(0.75),
        Sigmoid(),
        Softmax(),
    ]
    network = Network(layers, (2, 5, 6))
    rng = np.random.default_rng(seed)
    network.vector[...] = rng.standard_normal(network.size)
    network.parameters()["5.running_var"][...] = 1 + rng.random(3)
    pixels = PixelScale(1 / 127.5, -1.0)
    return Checkpoint(Classifier(network, ("null", 'a"b', "größe"), pixels, "tiny"), TRAINING)


@pytest.mark.parametrize("name", MODELS)
def test_named_models_come_back(name: str) -> None:
    classifier = Classifier(build(name).initialize(7), DIGITS, name=name)
    data = encode_checkpoint(Checkpoint(classifier, {"epoch": 0}))
    back = decode_checkpoint(data)
    assert back.classifier.network.layers == classifier.network.layers
    assert back.classifier.network.vector.tobytes() == classifier.network.vector.tobytes()
    assert back.classifier.network.input_shape == (1, 28, 28)
    assert (back.classifier.class_names, back.classifier.name) == (DIGITS, name)
    assert back.classifier.pixels == PixelScale()
    assert encode_checkpoint(back) == data


def test_everything_comes_back(tmp_path: Path) -> None:
    checkpoint = tiny()
    save_checkpoint(tmp_path / "a.json", checkpoint)
    back = load_checkpoint(tmp_path / "a.json")
    assert back.training == TRAINING
    assert list(back.training) == list(TRAINING)
    assert back.classifier.class_names == checkpoint.classifier.class_names
    assert back.classifier.pixels == PixelScale(1 / 127.5, -1.0)
    assert back.classifier.network.layers == checkpoint.classifier.network.layers
    images = np.random.default_rng(1).integers(0, 256, (5, 2, 5, 6)).astype(np.uint8)
    expected = checkpoint.classifier.probabilities(images)
    assert back.classifier.probabilities(images).tobytes() == expected.tobytes()


def test_layers_of_all_kinds_come_back() -> None:
    spread = Conv2d(3, (2, 2), dilation=(2, 1), groups=3)
    kinds: list[Layer] = [
        ZeroPad2d(1, 0, 2, 1),
        spread,
        AvgPool2d((2, 2), padding=(1, 0)),
        GELU("tanh"),
        Tanh(),
    ]
    kinds += [GlobalAvgPool(), GELU(), FourierFeatures(2, 0.5), Dense(3, init_bound=0.25), Sine(2.0)]
    layers = [*kinds, *tiny().classifier.network.layers[5:]]
    network = Network(layers, (3, 4, 4)).initialize(0)
    data = encode_checkpoint(Checkpoint(Classifier(network, ("a", "b", "c")), {}))
    back = decode_checkpoint(data).classifier.network
    assert back.layers == network.layers
    assert back.vector.tobytes() == network.vector.tobytes()
    assert {layer.kind for layer in (*layers, *tiny().classifier.network.layers)} == set(LAYER_KINDS)


def test_networks_of_features_come_back() -> None:
    """Such as one from coordinates to a colour: numbers in, no pictures."""
    network = Network([FourierFeatures(3, 0.5), Dense(3), Sigmoid()], (2,)).initialize(5)
    checkpoint = Checkpoint(Classifier(network, ("red", "green", "blue"), PixelScale(0.5, -1.0)), {})
    data = encode_checkpoint(checkpoint)
    assert json.loads(data)["input"] == {"features": 2, "scale": 0.5, "shift": -1.0}
    back = decode_checkpoint(data).classifier
    assert (back.input_shape, back.pixels) == ((2,), PixelScale(0.5, -1.0))
    assert back.network.layers == network.layers
    assert back.network.vector.tobytes() == network.vector.tobytes()
    architecture = decode_architecture(data)
    assert (architecture.input_shape, architecture.class_names) == ((2,), ("red", "green", "blue"))
    short = {
        "format": "mnistnet-architecture",
        "version": 1,
        "input": {"features": 4},
        "layers": [{"kind": "relu"}],
    }
    assert decode_architecture(json.dumps(short).encode()).pixels == PixelScale()
    for wrong, message in [
        ('{"features": 0, "scale": 1.0, "shift": 0.0}', "input.features: input should be greater than"),
        ('{"features": 2, "shift": 0.0}', "input.scale: missing"),
        ('{"features": 2, "height": 1, "scale": 1.0, "shift": 0.0}', "input.height: unknown member"),
    ]:
        changed = re.sub(rb'"input": {[^}]*}', f'"input": {wrong}'.encode(), data)
        changed = re.sub(rb',\s*"checksum": "[^"]*"', b"", changed)
        with pytest.raises(CheckpointError, match=f"^{message}"):
            decode_checkpoint(changed)


def test_a_confidence_threshold_travels_and_none_leaves_no_trace() -> None:
    plain = tiny()
    calibrated = replace(plain, classifier=replace(plain.classifier, confidence_threshold=0.75))
    data = encode_checkpoint(calibrated)
    assert list(json.loads(data))[4:6] == ["classes", "confidence_threshold"]
    assert decode_checkpoint(data).classifier.confidence_threshold == 0.75
    assert encode_checkpoint(decode_checkpoint(data)) == data
    assert b"confidence" not in encode_checkpoint(plain)
    for wrong in ("0", "1.5", '"high"', "true"):
        changed = re.sub(rb'"confidence_threshold": 0.75', f'"confidence_threshold": {wrong}'.encode(), data)
        changed = re.sub(rb',\s*"checksum": "[^"]*"', b"", changed)
        with pytest.raises(CheckpointError, match=r"^confidence_threshold: "):
            decode_checkpoint(changed)


def test_the_bytes_follow_the_contract() -> None:
    checkpoint = tiny()
    data = encode_checkpoint(checkpoint)
    document = json.loads(data)
    assert list(document) == [
        "format",
        "version",
        "model",
        "input",
        "classes",
        "layers",
        "training",
        "checksum",
    ]
    conv = document["layers"][0]
    assert list(conv) == ["kind", "out_channels", "kernel_size", "stride", "padding", "weight", "bias"]
    assert conv["kernel_size"] == [3, 2]
    norm = document["layers"][5]
    names = ["weight", "bias", "running_mean", "running_var"]
    assert list(norm) == ["kind", "epsilon", "momentum", *names]
    assert conv["weight"]["dim"] == [2, 2, 3, 2]
    weight = checkpoint.classifier.network.parameters()["0.weight"]
    assert np.array(conv["weight"]["data"], np.float32).tobytes() == weight.tobytes()
    covered, rest = data.rsplit(b'"checksum"', 1)
    assert rest == b': "sha256:' + hashlib.sha256(covered).hexdigest().encode() + b'"\n}\n'
    assert covered.endswith(b"\n ")
    assert b"\r" not in data
    # one array a line, and no line holds two
    assert [line.count(b'"data"') for line in data.splitlines() if b'"data"' in line] == [1] * 8


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    assert encode_checkpoint(tiny()) == encode_checkpoint(tiny())
    assert encode_checkpoint(tiny(0)) != encode_checkpoint(tiny(1))


def test_a_new_layer_kind_needs_no_code_here() -> None:
    @dataclass
    class Scale(ReLU, kind="test_scale"):
        factor: float
        names: list[str]

        def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
            return {"gain": (), "nothing": (0, 3)}

    try:
        network = Network([Flatten(), Scale(0.5, ["a"]), Dense(2)], (1, 1, 2))
        network.vector[...] = np.arange(network.size)
        back = decode_checkpoint(encode_checkpoint(Checkpoint(Classifier(network, ("a", "b")), {})))
    finally:
        del LAYER_KINDS["test_scale"]
    assert back.classifier.network.layers == network.layers
    assert back.classifier.network.parameters()["1.nothing"].shape == (0, 3)
    assert back.classifier.network.vector.tolist() == network.vector.tolist()


def test_what_cannot_be_saved_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save_checkpoint(path, tiny())
    before = path.read_bytes()
    broken = tiny()
    broken.classifier.network.parameters()["4.bias"][2] = np.inf
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(path, broken)
    assert str(caught.value) == f"{path}: layer 4 (dense): bias: non-finite at number 2: found inf"
    classifier = tiny().classifier
    for training, message in [
        ({"loss": float("nan")}, "training.loss: non-finite (nan)"),
        ({"a": {"b c": [0, float("inf")]}}, 'training.a."b c"[1]: non-finite (inf)'),
        ({"rate": np.float32(1)}, "training.rate: expected a plain JSON value, found float32"),
        ({"where": Path("/x")}, "training.where: expected a plain JSON value, found"),
        ({"a": "\ud800"}, "training.a: not Unicode text"),
        ({"a": {1: 2}}, "training.a: keys must be text, found 1"),
    ]:
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(path, Checkpoint(classifier, training))  # type: ignore[arg-type]
        assert message in str(caught.value)
    with pytest.raises(CheckpointError, match="weight: expected float32, found float64"):
        doubles = Network([Flatten(), Dense(2)], (1, 2, 2), np.float64)
        save_checkpoint(path, Checkpoint(Classifier(doubles, ("a", "b")), {}))
    with pytest.raises(OutputError, match="is a directory"):
        save_checkpoint(tmp_path, tiny())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_architecture_files(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(_code_blocks("json")[1])
    architecture = load_architecture(path)
    assert architecture.layers == (
        Conv2d(8, (3, 3), stride=(2, 2)),
        ReLU(),
        Flatten(),
        Dense(10),
        Softmax(),
    )
    assert architecture.input_shape == (1, 28, 28)
    assert architecture.class_names is None
    assert architecture.pixels == PixelScale()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == f"{path}: format: an architecture, which has no weights: train it first"


def test_a_checkpoint_stands_in_for_an_architecture_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    checkpoint = tiny()
    save_checkpoint(path, checkpoint)
    architecture = load_architecture(path)
    assert architecture.layers == checkpoint.classifier.network.layers
    assert architecture.class_names == checkpoint.classifier.class_names
    assert architecture.pixels == checkpoint.classifier.pixels
    assert architecture.name == "tiny"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": []}, "layers: empty network: expected at least one layer"),
        ({"layers": [{"kind": "flatten"}, {"kind": "dense", "out_features": 2**31 - 1}]}, "too large"),
        ({"input": {"channels": 2**30, "height": 2**30, "width": 2**30}}, "too large"),
        ({"layers": [{"kind": "dense", "out_features": 2}]}, "put a flatten layer in front"),
        ({"layers": [{"kind": "relu"}]}, "layers: the output should be (K,) classes, found (1, 2, 2)"),
        ({"classes": ["a"]}, "classes: 1 names, but the network has 4 outputs"),
        ({"layers": [{"kind": "flatten", "size": 3}]}, "layers[0].size: unknown member: flatten has kind"),
        ({"layers": [{"kind": "dense"}]}, "layers[0]: missing field out_features in dense"),
        ({"input": {"channels": 1, "height": 2}}, "input.width: missing"),
        ({"surprise": 1}, "surprise: unknown member"),
    ],
)
def test_bad_architectures(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    document = {
        "format": "mnistnet-architecture",
        "version": 1,
        "input": {"channels": 1, "height": 2, "width": 2},
        "layers": [{"kind": "flatten"}],
    }
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**document, **changes}))
    with pytest.raises(CheckpointError) as caught:
        load_architecture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def _save_at(path: Path, seconds: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, tiny())
    os.utime(path, (seconds, seconds))
    return path


def test_find_takes_a_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "anything.txt"
    path.write_text("not looked into")
    assert find_checkpoint(path) == path


def test_find_newest(tmp_path: Path) -> None:
    _save_at(tmp_path / "lenet.json", 100)
    _save_at(tmp_path / "run-1" / "latest.json", 300)
    newest = _save_at(tmp_path / "run-2" / "latest.json", 400)
    _save_at(tmp_path / "run-2" / "checkpoint_9.json", 900)  # its run's latest.json speaks for it
    _save_at(tmp_path / "a" / "b" / "latest.json", 1000)  # too deep
    for name in ("other.json", "run-2.json"):
        (tmp_path / name).write_text('{"format": "something else"}')
    (tmp_path / "net.json").write_text(_code_blocks("json")[1])  # no weights
    (tmp_path / "copy.txt").write_bytes(newest.read_bytes())
    assert find_checkpoint(tmp_path) == newest
    lone = _save_at(tmp_path / "lenet.json", 500)
    assert find_checkpoint(tmp_path) == lone
    assert find_checkpoint(tmp_path / "run-1") == tmp_path / "run-1" / "latest.json"


def test_find_without_latest_takes_the_newest_file(tmp_path: Path) -> None:
    newest = _save_at(tmp_path / "checkpoint_10.json", 200)
    _save_at(tmp_path / "checkpoint_9.json", 100)
    (tmp_path / "latest.json").write_text("{}")
    assert find_checkpoint(tmp_path) == newest


def test_find_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path / "missing")
    assert str(caught.value).startswith(f"{tmp_path / 'missing'}: no such file or folder")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: no checkpoint in this folder or its subfolders")


def test_the_package_does_not_import_onnx() -> None:
    program = "import sys, mnistnet.formats; assert not {'onnx', 'typer', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def _code_blocks(language: str) -> list[str]:
    """The code blocks of docs/checkpoint-format.md."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_documented_example() -> None:
    back = decode_checkpoint(_code_blocks("json")[0].encode())
    assert encode_checkpoint(back) == _code_blocks("json")[0].encode()
    dark, bright = (np.full((1, 1, 2, 2), value, np.uint8) for value in (0, 255))
    # by hand: logits are 2 - s and s - 2 with s the sum of the four pixels
    expected = 1 / (1 + np.exp(-4.0))
    assert back.classifier.probabilities(dark)[0, 0] == pytest.approx(expected, abs=1e-6)
    assert back.classifier.probabilities(bright)[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_documented_reader(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(_code_blocks("python")[0])
    save_checkpoint(tmp_path / "a.json", tiny())
    command = [sys.executable, "-I", str(tmp_path / "reader.py"), str(tmp_path / "a.json")]
    good = subprocess.run(command, capture_output=True, text=True, check=True)
    assert good.stdout.splitlines()[0] == "0 conv2d {'weight': [2, 2, 3, 2], 'bias': [2]}"
    data = bytearray((tmp_path / "a.json").read_bytes())
    data[data.index(b'"epoch": 3') + 9] = ord("4")
    (tmp_path / "a.json").write_bytes(data)
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode != 0
    assert "corrupt" in bad.stderr
    with pytest.raises(CheckpointError, match="corrupt"):
        load_checkpoint(tmp_path / "a.json")


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("method", "found"), [("open", "no checkpoint"), ("iterdir", "cannot be listed (permission denied)")]
)
def test_what_may_not_be_read_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, found: str
) -> None:
    _save_at(tmp_path / "latest.json", 100)
    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path)
    assert found in str(caught.value)


def test_a_subfolder_that_cannot_be_searched_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = _save_at(tmp_path / "run-1" / "lone.json", 100)
    _save_at(tmp_path / "run-2" / "lone.json", 200)
    search = Path.glob

    def broken(folder: Path, pattern: str) -> object:
        if folder.name == "run-2":
            raise OSError(5, "Input/output error")
        return search(folder, pattern)

    monkeypatch.setattr(Path, "glob", broken)
    assert find_checkpoint(tmp_path) == newest


def test_of_a_run_the_best_network_is_meant(tmp_path: Path) -> None:
    _save_at(tmp_path / "run" / "latest.json", 900)
    best = _save_at(tmp_path / "run" / "best.json", 400)
    assert find_checkpoint(tmp_path / "run") == best
    assert find_checkpoint(tmp_path) == best


def test_a_training_that_can_go_on_comes_back_bit_for_bit() -> None:
    checkpoint = tiny()
    own = checkpoint.classifier.network.vector
    vectors = {"velocity": -own / 3, "average": own.copy(), "odd": np.full_like(own, np.nan)}
    state = SavedState({"epoch": 3, "step": 7, "best": {"loss": 0.1}}, vectors)
    data = encode_checkpoint(replace(checkpoint, state=state))
    document = json.loads(data)
    assert document["state"]["vectors"]["average"] is None  # equal to the layers' own parameters
    velocity = np.frombuffer(base64.b64decode(document["state"]["vectors"]["velocity"]), "<f4")
    assert velocity.tobytes() == vectors["velocity"].tobytes()
    found = decode_checkpoint(data).state
    assert found is not None
    assert found.position == state.position
    assert {name: v.tobytes() for name, v in found.vectors.items()} == {
        name: v.tobytes() for name, v in vectors.items()
    }
    assert decode_checkpoint(encode_checkpoint(checkpoint)).state is None


@pytest.mark.parametrize(
    ("vector", "found"),
    [(np.zeros(3, np.float32), r"float32 \(3,\)"), (np.zeros(185), r"float64 \(185,\)")],
)
def test_a_state_that_is_not_the_networks_is_not_written(vector: np.ndarray, found: str) -> None:
    checkpoint = tiny()
    assert checkpoint.classifier.network.size == 185
    state = SavedState({}, {"velocity": vector})
    message = rf"^state\.vectors\.velocity: expected float32 \(185,\), found {found}"
    with pytest.raises(CheckpointError, match=message):
        encode_checkpoint(replace(checkpoint, state=state))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"position": {}, "vectors": {"velocity": "AAA"}}, "state.vectors.velocity: expected base64, found"),
        (
            {"position": {}, "vectors": {"velocity": "AAAA"}},
            "state.vectors.velocity: expected 740 bytes, found 3",
        ),
        ({"position": {}}, "state.vectors: missing"),
        ({"position": {}, "vectors": {}, "more": 1}, "state.more: unknown member"),
        ({"position": {}, "vectors": {"velocity": 1}}, "state.vectors.velocity: "),
    ],
)
def test_a_damaged_state_is_refused(state: dict, message: str) -> None:
    document = json.loads(encode_checkpoint(tiny()))
    del document["checksum"]
    with pytest.raises(CheckpointError) as caught:
        decode_checkpoint(json.dumps({**document, "state": state}).encode())
    assert str(caught.value).startswith(message)


def test_paths_may_be_text(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    save_checkpoint(path, tiny())
    assert load_checkpoint(path).training == TRAINING
    assert load_architecture(path).name == "tiny"
    assert find_checkpoint(str(tmp_path)) == tmp_path / "a.json"
    with pytest.raises(CheckpointError, match="nowhere: no such file or folder"):
        find_checkpoint("nowhere")
    with pytest.raises(CheckpointError, match="nowhere: no such file"):
        load_checkpoint("nowhere")


def nested(levels: int) -> object:
    return {"a": nested(levels - 1)} if levels else 0


DEEP = "nested too deeply: expected at most 64 levels"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": (0, 1, 2)}, "classes[0]: input should be a valid string, found 0"),
        ({"class_names": range(3)}, "classes[0]: input should be a valid string, found 0"),
        ({"class_names": ("a", "b", None)}, "classes[2]: input should be a valid string, found null"),
        ({"class_names": ("a", "b", "a")}, 'classes: expected different names, found "a" twice'),
        ({"name": None}, "model: input should be a valid string, found null"),
        (
            {"confidence_threshold": 0.0},
            "confidence_threshold: input should be greater than 0, found 0.0",
        ),
        (
            {"confidence_threshold": 2.0},
            "confidence_threshold: input should be less than or equal to 1, found 2.0",
        ),
        ({"pixels": PixelScale(1e39)}, "input.scale: input should be less than or equal to 34"),
        (
            {"pixels": PixelScale(1.0, -1e39)},
            "input.shift: input should be greater than or equal to -34",
        ),
        ({"pixels": PixelScale(float("nan"))}, "input.scale: non-finite (nan)"),
    ],
)
def test_what_would_not_be_read_again_is_not_written(changes: dict[str, object], message: str) -> None:
    classifier = replace(tiny().classifier, **changes)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError) as caught:
        encode_checkpoint(Checkpoint(classifier, {}))
    assert str(caught.value).startswith(message)


def test_nor_is_a_state_or_a_network_that_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny()
    encode_checkpoint(replace(checkpoint, state=SavedState({"a": nested(61)}, {})))
    with pytest.raises(CheckpointError, match=DEEP):
        encode_checkpoint(replace(checkpoint, state=SavedState({"a": nested(62)}, {})))
    with pytest.raises(CheckpointError, match=r"^state\.vectors: keys must be text, found 1$"):
        encode_checkpoint(replace(checkpoint, state=SavedState({}, {1: np.zeros(185)})))  # type: ignore[dict-item]
    monkeypatch.setattr("mnistnet.formats.checkpoint.MOST_PARAMETERS", 100)
    with pytest.raises(CheckpointError, match=r"^layer 4 \(dense\): too large: "):
        encode_checkpoint(checkpoint)


def test_the_largest_and_deepest_that_is_written_is_read_again() -> None:
    training = {"most": 10**300 - 1, "least": 1 - 10**300, "deep": nested(62)}
    state = SavedState({"a": nested(61)}, {})
    classifier = replace(tiny().classifier, pixels=PixelScale(3.4e38, -3.4e38), confidence_threshold=1.0)
    back = decode_checkpoint(encode_checkpoint(Checkpoint(classifier, training, state)))  # type: ignore[arg-type]
    assert (back.training, back.classifier.pixels) == (training, classifier.pixels)
    assert back.state is not None
    assert back.state.position == state.position
