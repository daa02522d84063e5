"""rsnet's checkpoints: files that its own serde accepted, and ours, field by field by serde's rules."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_probes import MODELS, digits

from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import Conv2d, Dense, Flatten, Layer, LeakyReLU, MaxPool2d, ReLU, Softmax
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, ExportError
from mnistnet.formats.rsnet import decode_rsnet, encode_rsnet, load_rsnet, looks_like_rsnet, save_rsnet
from mnistnet.models import Classifier, build

EXAMPLE = MODELS / "rsnet_checkpoint_example.json"
MINIMAL = MODELS / "rsnet_checkpoint_minimal.json"

FIELDS: dict[str, dict[str, str]] = {
    "Conv": {
        "in_channels": "usize",
        "out_channels": "usize",
        "kernel_size": "(usize, usize)",
        "stride": "usize",
        "kernels_mat": "array 2",
        "b": "array 1",
    },
    "FC": {"input_size": "usize", "output_size": "usize", "weights": "array 2", "bias": "array 1"},
    "Pool": {"pool_size": "(usize, usize)"},
    "ReLU": {},
    "Flatten": {},
    "Softmax": {},
}
"""Required fields of rsnet's structures; the others are Option and may be absent."""


def serde_accepts(value: Any, kind: str) -> bool:
    match kind.split():
        case ["usize"]:
            return type(value) is int and value >= 0
        case ["array", dimensions]:
            return (
                set(value) == {"v", "dim", "data"}
                and value["v"] == 1
                and len(value["dim"]) == int(dimensions)
                and np.prod(value["dim"]) == len(value["data"])
                and all(type(number) in (int, float) for number in value["data"])
            )
        case _:
            return len(value) == 2 and all(serde_accepts(item, "usize") for item in value)


def parse_as_serde(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The layers, if the file has serde's form: externally tagged, no field missing, others passed over."""
    layers = []
    for item in json.loads(data)["layers"]:
        ((tag, body),) = item.items()
        for name, kind in FIELDS[tag].items():
            assert serde_accepts(body[name], kind), f"{tag}.{name}"
        layers.append((tag, body))
    return layers


def test_the_example() -> None:
    """Caches and gradients passed over, null as not a number, weights (in, out)."""
    found = load_rsnet(EXAMPLE, input_shape=(1, 3, 3))
    assert isinstance(found.predictor, Classifier)
    network = found.predictor.network
    kinds = [layer.kind for layer in network.layers]
    assert kinds == ["conv2d", "relu", "max_pool2d", "flatten", "dense", "softmax"]
    parameters = network.parameters()
    float32 = np.float32
    expected = np.array([[0.1, -0.25, 1e-8, 3.4028235e38], [1.0, 0.3, 1.1754944e-38, -0.0]], float32)
    assert parameters["0.weight"].tobytes() == expected.tobytes()
    np.testing.assert_array_equal(parameters["0.bias"], np.array([0, 0.5], float32))
    np.testing.assert_array_equal(parameters["4.weight"], [[1, 4], [2, np.nan], [3, np.nan]])
    assert any("null" in note for note in found.notes)
    assert any("255" in note for note in found.notes)


def test_the_minimal_one_computes() -> None:
    found = load_rsnet(MINIMAL, input_shape=(1, 3, 3), pixels=PixelScale(1.0))
    assert found.notes == ()
    image = np.zeros((1, 1, 3, 3), np.uint8)
    image[0, 0, :2, :2] = [[1, 2], [3, 4]]
    # the best of four windows is the first: 0.1 + 0.4 + 0.9 + 1.6 = 3, and the classes get 3 and -3
    expected = np.exp([3.0, -3.0]) / np.exp([3.0, -3.0]).sum()
    np.testing.assert_allclose(found.predictor.probabilities(image)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["lenet", "rsnet", "mlp"])
def test_written_ones_come_back_and_are_serdes(tmp_path: Path, name: str) -> None:
    pixels = PixelScale(1 / 255, -0.5)
    classifier = Classifier(build(name).initialize(2), tuple("abcdefghij"), pixels, name)
    path = tmp_path / "for rsnet.json"
    save_rsnet(path, classifier)
    assert looks_like_rsnet(path)
    found = load_rsnet(path)
    assert found.notes == ()
    assert isinstance(found.predictor, Classifier)
    assert found.predictor.network.layers == classifier.network.layers
    assert found.predictor.network.vector.tobytes() == classifier.network.vector.tobytes()
    assert (found.predictor.class_names, found.predictor.pixels) == (tuple("abcdefghij"), pixels)
    layers = parse_as_serde(path.read_bytes())
    assert len(layers) == len(classifier.network.layers)


def test_their_layout_is_theirs() -> None:
    """kernels_mat (out, in k k) in C, kh, kw order; FC's weights (in, out)."""
    network = build("lenet").initialize(0)
    layers = parse_as_serde(encode_rsnet(Classifier(network, tuple("0123456789"))))
    conv, dense = layers[3][1], layers[7][1]
    weight = network.parameters()["3.weight"]
    assert conv["kernels_mat"]["dim"] == [16, 8 * 25]
    flat = [weight[k, c, r, s] for k in range(2) for c in range(8) for r in range(5) for s in range(5)]
    np.testing.assert_array_equal(np.array(conv["kernels_mat"]["data"][: len(flat)], np.float32), flat)
    assert (conv["in_channels"], conv["out_channels"], conv["stride"]) == (8, 16, 1)
    assert dense["weights"]["dim"] == [256, 128]
    first_row = np.array(dense["weights"]["data"][:128], np.float32)
    np.testing.assert_array_equal(first_row, network.parameters()["7.weight"][:, 0])


def test_caches_are_cut_out_before_parsing() -> None:
    """A file with 5 MB of what flowed through reads like one without."""
    cache = json.dumps({"v": 1, "dim": [1000, 1000], "data": [0.5] * 1_000_000})
    text = MINIMAL.read_text().replace('"ReLU": {}', f'"ReLU": {{"last_input": {cache}}}')
    assert len(text) > 5_000_000
    plain = decode_rsnet(MINIMAL.read_bytes(), input_shape=(1, 3, 3)).predictor
    found = decode_rsnet(text.encode(), input_shape=(1, 3, 3)).predictor
    images = digits(3)[:, :, 8:11, 8:11]
    np.testing.assert_array_equal(found.probabilities(images), plain.probabilities(images))


def test_a_softmax_that_is_missing_is_added_and_said() -> None:
    """So that the outputs are probabilities, here and when the network is saved as a checkpoint."""
    document = json.loads(MINIMAL.read_text())
    assert document["layers"].pop() == {"Softmax": {}}
    found = decode_rsnet(json.dumps(document).encode(), input_shape=(1, 3, 3), pixels=PixelScale(1.0))
    assert found.notes == ("its outputs are taken as logits, to which a softmax is applied",)
    whole = decode_rsnet(MINIMAL.read_bytes(), input_shape=(1, 3, 3), pixels=PixelScale(1.0)).predictor
    assert isinstance(found.predictor, Classifier)
    assert isinstance(whole, Classifier)
    assert found.predictor.network.layers == whole.network.layers
    images = digits(3)[:, :, 8:11, 8:11]
    np.testing.assert_array_equal(found.predictor.probabilities(images), whole.probabilities(images))


def minimal(**changes: Any) -> bytes:
    """The minimal file with some fields of its first layer changed; None takes one away."""
    document = json.loads(MINIMAL.read_text())
    body = document["layers"][0]["Conv"]
    for name, value in changes.items():
        body[name] = value
        if value is None:
            del body[name]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "layers: expected rsnet's list of layers"),
        (b'{"layers": []}', "layers: expected rsnet's list of layers"),
        (b'{"layers": [{"GRU": {}}]}', r'layers\[0\]: unknown layer "GRU": expected one of Conv, ReLU, Pool'),
        (b'{"layers": [{"ReLU": {}, "Flatten": {}}]}', r"layers\[0\]: expected one member such as"),
        (b'{"layers": [{"ReLU": 1}]}', r"layers\[0\].ReLU: expected an object, found 1"),
        (minimal(b=None), r"layers\[0\].Conv.b: missing"),
        (minimal(stride=0), r"layers\[0\].Conv: stride must be a whole number >= 1, found 0"),
        (
            minimal(in_channels="one"),
            r"layers\[0\].Conv: in_channels must be a whole number >= 1, found 'one'",
        ),
        (minimal(out_channels=2), r"layers\[0\].Conv.kernels_mat: expected \(2, 4\), found \(1, 4\)"),
        (minimal(b={"v": 2, "dim": [1], "data": [0]}), r"layers\[0\].Conv.b.v: expected 1, found 2"),
        (minimal(b=[0.0]), r"layers\[0\].Conv.b: expected an array .*, found a list of 1"),
        (minimal(b={"v": 1, "dim": [1], "data": ["0"]}), r"layers\[0\].Conv.b.data\[0\]: not a number"),
        (MINIMAL.read_bytes(), r"pictures of \(1, 28, 28\): layer 4 \(dense\): .*; --input-shape 1,3,3 fits"),
    ],
)
def test_files_that_cannot_be_used(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{message}"):
        decode_rsnet(data)


def test_what_others_do_not_say_is_assumed_and_said() -> None:
    classifier = Classifier(build("mlp").initialize(0), tuple("abcdefghij"), PixelScale(1 / 255))
    document = json.loads(encode_rsnet(classifier))
    del document["mnistnet"]
    found = decode_rsnet(json.dumps(document).encode())
    assert found.notes == (
        "pictures are taken to be 1x28x28; use --input-shape for others",
        "bytes of a picture are divided by 255; use --input-scale if it was trained on something else",
    )
    assert found.predictor.class_names == tuple("0123456789")
    told = decode_rsnet(json.dumps(document).encode(), input_shape=(1, 28, 28), pixels=PixelScale(1 / 255))
    assert told.notes == ()
    np.testing.assert_array_equal(
        told.predictor.probabilities(digits(3)), classifier.probabilities(digits(3))
    )


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (["ReLU"], (1, 2**15, 2**15), r"layer 0 \(relu\): too large: expected at most 16777216 values"),
        (["ReLU"], (1, 2, 2), r"the output should be \(K,\) classes, found \(1, 2, 2\)"),
    ],
)
def test_layers_that_fit_no_pictures(layers: list[str], shape: tuple[int, int, int], message: str) -> None:
    data = json.dumps({"layers": [{kind: {}} for kind in layers]}).encode()
    with pytest.raises(CheckpointError, match=rf"^pictures of {re.escape(str(shape))}: {message}"):
        decode_rsnet(data, input_shape=shape)


def test_a_damaged_member_of_ours() -> None:
    document = json.loads(encode_rsnet(Classifier(build("mlp").initialize(0), tuple("0123456789"))))
    document["mnistnet"]["input"]["width"] = "28"
    with pytest.raises(CheckpointError, match=r"^mnistnet: not as this package writes it \(width must be"):
        decode_rsnet(json.dumps(document).encode())
    document["mnistnet"]["input"]["width"] = 28
    document["mnistnet"]["classes"].pop()
    with pytest.raises(CheckpointError, match=r"^mnistnet\.classes: 9 names, but the network has 10 outputs"):
        decode_rsnet(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Conv2d(2, 3, padding=1)],
            r"layer 0 \(conv2d\): rsnet's Conv has no stride, padding, dilation or groups",
        ),
        (
            [MaxPool2d(2, 1)],
            r"layer 0 \(max_pool2d\): rsnet's Pool has neither padding nor a stride other than",
        ),
        ([ReLU(), LeakyReLU()], r"layer 1 \(leaky_relu\): rsnet has no such layer; it has conv2d, relu"),
    ],
)
def test_what_rsnet_cannot_express(layers: list[Layer], message: str) -> None:
    network = Network([*layers, Flatten(), Dense(2), Softmax()], (1, 8, 8)).initialize(0)
    with pytest.raises(ExportError, match=message):
        encode_rsnet(Classifier(network, ("a", "b")))


def test_weights_that_are_not_finite_are_not_written() -> None:
    """rsnet would write null and read back what is no number."""
    classifier = Classifier(build("mlp").initialize(0), tuple("0123456789"))
    classifier.network.vector[5] = np.nan
    with pytest.raises(ExportError, match=r"layer 1 \(dense\): weights: non-finite at number"):
        encode_rsnet(classifier)


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text("{}")
    with pytest.raises(CheckpointError, match=r"odd\.json: layers: expected rsnet's list of layers"):
        load_rsnet(path)


def test_other_json_does_not_look_like_it(tmp_path: Path) -> None:
    assert looks_like_rsnet(EXAMPLE)
    path = tmp_path / "other.json"
    path.write_text('{"layers": [{"kind": "relu"}]}')
    assert not looks_like_rsnet(path)
    assert not looks_like_rsnet(tmp_path)


def test_what_cannot_be_read_does_not_look_like_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(EXAMPLE.read_bytes())
    assert looks_like_rsnet(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert not looks_like_rsnet(path)
