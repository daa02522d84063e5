"""ONNX export against onnxruntime, which shares nothing with the engine."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mnistnet.data.proof import proof_images
from mnistnet.engine.arrays import PixelScale
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
)
from mnistnet.engine.network import Network
from mnistnet.errors import ExportError, OutputError, ShapeError
from mnistnet.formats import onnx_export
from mnistnet.formats.html import to_html
from mnistnet.formats.onnx_export import IR_VERSIONS, OnnxForm, add_nodes, export_onnx, to_onnx
from mnistnet.formats.onnx_import import load_onnx
from mnistnet.formats.onnx_verify import verify_onnx
from mnistnet.formats.rsnet import encode_rsnet
from mnistnet.models import Classifier, Ensemble, build

DATA = Path(__file__).parents[2] / "data"
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def mnist() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(10000, 1, 28, 28) uint8: the test images."""
    with gzip.open(DATA / "t10k-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 1, 28, 28)


def named(name: str = "lenet", seed: int = 1) -> Classifier:
    """A named network whose first weights are spread so far that its answers differ from image to image."""
    network = build(name).initialize(seed)
    network.vector *= 3
    return Classifier(network, DIGITS, name=name)


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | Path, images: Any) -> Any:
    """What onnxruntime makes of uint8 images."""
    return session(model).run(["probabilities"], {"images": images.astype(np.float32) / np.float32(255)})[0]


@pytest.mark.parametrize(
    ("name", "count"), [("lenet", 10_000), ("rsnet", 2000), ("mlp", 2000), ("wide", 200)]
)
def test_named_models_on_real_images(tmp_path: Path, mnist: Any, name: str, count: int) -> None:
    classifier = named(name)
    path = tmp_path / "model with a space.onnx"
    report = export_onnx(classifier, path, images=mnist[:16])
    assert report.path == path
    assert (report.form.opset, report.ir_version, report.images) == (13, 7, 16)
    assert report.size == path.stat().st_size
    assert report.nodes == len(classifier.network.layers)
    assert 0 <= report.largest_difference < 1e-5
    found = run(path, mnist[:count])
    assert found.shape == (count, 10)
    assert np.abs(found - classifier.probabilities(mnist[:count])).max() < 1e-5
    # a model that says the same of every image would agree too
    assert found.std(axis=0).max() > 0.01


GEOMETRIES: list[tuple[tuple[int, int, int], list[Layer]]] = [
    ((3, 9, 12), [Conv2d(4, (3, 2), stride=(2, 3), padding=(1, 0)), ReLU(), Flatten(), Dense(5), Softmax()]),
    ((1, 11, 8), [MaxPool2d((3, 2), stride=(2, 1), padding=(1, 1)), Flatten(), Dense(4), Softmax()]),
    (
        (2, 7, 7),
        [Conv2d(3, (1, 1)), MaxPool2d((3, 3), stride=(1, 1)), ReLU(), Flatten(), Dense(3), Softmax()],
    ),
    (
        (1, 10, 10),
        [
            Conv2d(4, (5, 5), padding=(2, 2)),
            MaxPool2d((2, 2), padding=(1, 1)),
            Conv2d(2, (3, 3), stride=(2, 2), padding=(1, 1)),
            Flatten(),
            ReLU(),
            Flatten(),
            Dense(6),
            Softmax(),
        ],
    ),
    ((1, 1, 1), [Flatten(), Dense(2), Softmax()]),
    (
        (2, 8, 7),
        [
            BatchNorm(epsilon=0.25),
            Conv2d(4, (3, 3)),
            BatchNorm(),
            LeakyReLU(0.125),
            Dropout(0.9),
            Flatten(),
            Dense(6),
            BatchNorm(),
            Sigmoid(),
            Dense(3),
            Softmax(),
        ],
    ),
    (
        (2, 8, 7),
        [
            AvgPool2d((3, 2), stride=(2, 1), padding=(1, 1)),
            GELU(),
            Conv2d(4, (2, 2)),
            GELU("tanh"),
            AvgPool2d((2, 2), stride=(1, 1)),
            Tanh(),
            GlobalAvgPool(),
            FourierFeatures(5, 0.25),
            Dense(3, init_bound=0.5),
            Sine(2.0),
            Dense(3),
            Softmax(),
        ],
    ),
]


@pytest.mark.parametrize(("shape", "layers"), GEOMETRIES)
def test_geometry(tmp_path: Path, shape: tuple[int, int, int], layers: list[Layer]) -> None:
    network = Network(layers, shape)
    rng = np.random.default_rng(3)
    network.vector[...] = rng.standard_normal(network.size) * 0.3
    np.abs(
        network.vector, where=np.arange(network.size) >= network.trainable, out=network.vector
    )  # variances
    classifier = Classifier(network, tuple(map(str, range(*network.output_shape))))
    images = rng.integers(0, 256, (20, *shape)).astype(np.uint8)
    path = tmp_path / "model.onnx"
    export_onnx(classifier, path, images=images[:3])
    found = run(path, images)
    assert np.abs(found - classifier.probabilities(images)).max() < 1e-5
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "operators"),
    [
        (PixelScale(), []),
        (PixelScale(1 / 127.5, -1.0), ["Mul", "Add"]),
        (PixelScale(1.0, 0.0), ["Mul"]),
        (PixelScale(1 / 255, -0.1307), ["Add"]),
    ],
)
def test_normalization_is_inside(
    mnist: Any, tmp_path: Path, pixels: PixelScale, operators: list[str]
) -> None:
    layers: list[Layer] = [MaxPool2d((7, 7)), Flatten(), Dense(3), Softmax()]
    network = Network(layers, (1, 28, 28)).initialize(0)
    network.vector /= max(1.0, 255 * pixels.scale)
    classifier = Classifier(network, ("a", "b", "c"), pixels)
    path = tmp_path / "model.onnx"
    report = export_onnx(classifier, path, images=mnist[:20])
    assert report.nodes == len(layers) + len(operators)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node][: len(operators)] == operators
    assert np.abs(run(path, mnist[:500]) - classifier.probabilities(mnist[:500])).max() < 1e-5


def test_batch_is_dynamic(mnist: Any) -> None:
    model = to_onnx(named())
    assert session(model).get_inputs()[0].shape == ["N", 1, 28, 28]
    assert session(model).get_outputs()[0].shape == ["N", 10]
    whole = run(model, mnist[:7])
    assert whole.shape == (7, 10)
    for index in range(7):
        single = run(model, mnist[index : index + 1])
        assert single.shape == (1, 10)
        assert np.abs(single[0] - whole[index]).max() < 1e-6


def test_metadata(tmp_path: Path, mnist: Any) -> None:
    names = ("T-shirt/top", "größe", 'a"b', *"3456789")
    classifier = Classifier(build("mlp").initialize(0), names, name="mlp")
    path = tmp_path / "model.onnx"
    export_onnx(classifier, path, images=mnist[:2])
    meta = session(path).get_modelmeta()
    assert json.loads(meta.custom_metadata_map["classes"]) == list(names)
    assert meta.custom_metadata_map["model"] == "mlp"
    assert meta.custom_metadata_map["input"].startswith("float32 (N, 1, 28, 28): pixel values in [0, 1]")
    assert meta.producer_name == "mnistnet"
    assert meta.graph_name == "mlp"


def test_the_form_that_reaches_furthest() -> None:
    model = to_onnx(named())
    assert (model.opset_import[0].version, model.ir_version, len(model.opset_import)) == (13, 7, 1)
    parameters = named().network.parameters()
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert set(stored) == set(parameters)
    for name, values in parameters.items():
        assert stored[name].raw_data == values.astype("<f4").tobytes()
        assert tuple(stored[name].dims) == values.shape
    for node in model.graph.node:
        if node.op_type == "Gemm":
            assert {a.name: a.i for a in node.attribute} == {"transB": 1}
    assert model.graph.node[-1].output == ["probabilities"]


def test_the_same_classifier_gives_the_same_bytes(tmp_path: Path, mnist: Any) -> None:
    for name in "ab":
        export_onnx(named(), tmp_path / name, images=mnist[:2])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("opset", IR_VERSIONS)
def test_every_opset(tmp_path: Path, mnist: Any, opset: int) -> None:
    classifier = named("rsnet")
    report = export_onnx(classifier, tmp_path / "m.onnx", images=mnist[:2], form=OnnxForm(opset))
    assert report.form.opset == opset
    assert report.ir_version == onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    assert np.abs(run(tmp_path / "m.onnx", mnist[:50]) - classifier.probabilities(mnist[:50])).max() < 1e-5


@pytest.mark.parametrize("opset", [6, 11, 22, 99, -1])
def test_other_opsets(tmp_path: Path, mnist: Any, opset: int) -> None:
    with pytest.raises(ExportError) as caught:
        export_onnx(named(), tmp_path / "m.onnx", images=mnist[:2], form=OnnxForm(opset))
    assert str(caught.value) == f"--opset: expected 12 to 21, found {opset}"
    assert list(tmp_path.iterdir()) == []


def _registered() -> Iterable[type[Layer]]:
    return [cls for cls in LAYER_KINDS.values() if cls.__module__.startswith("mnistnet.")]


def test_a_network_of_numbers(tmp_path: Path) -> None:
    """From coordinates to a colour: floats go in as they are, whatever the pixel scale says."""
    layers = [FourierFeatures(8), Dense(6, init_bound=0.5), Sine(2.0), Dense(3), Sigmoid()]
    network = Network(layers, (2,)).initialize(4)
    classifier = Classifier(network, ("red", "green", "blue"), PixelScale(0.5, 3.0), "painting")
    points, whence = proof_images((2,), 20)
    assert (points.shape, points.dtype, whence) == (
        (20, 2),
        np.float32,
        "points in -1 .. 1 with 2 coordinates",
    )
    path = tmp_path / "painting.onnx"
    report = export_onnx(classifier, path, images=points)
    assert report.images == 20
    opened = session(path)
    assert [(i.name, i.shape) for i in opened.get_inputs()] == [("features", ["N", 2])]
    (found,) = opened.run(None, {"features": points})
    assert np.abs(found - network.predict(points)).max() < 1e-5
    assert {agreement.runtime.split()[0] for agreement in verify_onnx(path)} >= {"mnistnet", "onnx"}
    with pytest.raises(ExportError, match=r"^--input uint8: the network takes 2 numbers, no pictures$"):
        export_onnx(classifier, path, images=points, form=OnnxForm(bytes_in=True))
    with pytest.raises(ExportError, match=r"expected float32 \(2,\) each, found uint8 \(2,\)"):
        export_onnx(classifier, path, images=np.zeros((3, 2), np.uint8))
    for refuse in (encode_rsnet, lambda c: to_html(c, points)):
        with pytest.raises(ExportError, match=r"found \(2,\)$|layer 0 \(fourier_features\)"):
            refuse(classifier)
    plain = Classifier(Network([Dense(3), Softmax()], (2,)), ("a", "b", "c"))
    with pytest.raises(
        ExportError, match=r"^rsnet takes pictures: expected an input of \(C, H, W\), found \(2,\)$"
    ):
        encode_rsnet(plain)


def test_every_registered_layer_has_an_exporter() -> None:
    without = add_nodes.dispatch(object)
    assert [cls.kind for cls in _registered() if add_nodes.dispatch(cls) is without] == []
    assert len(list(_registered())) >= 6


def test_a_layer_without_an_exporter(mnist: Any, tmp_path: Path) -> None:
    @dataclass
    class Alien(Layer):
        kind = "alien"

        def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
            return input_shape

        def operations(self) -> list[Any]:
            return []

    classifier = Classifier(Network([Flatten(), Alien(), Dense(2)], (1, 28, 28)), ("a", "b"))
    with pytest.raises(ExportError, match=r"layer 1 \(alien\): Alien has no ONNX form"):
        export_onnx(classifier, tmp_path / "m.onnx", images=mnist[:2])


def test_bad_target(tmp_path: Path, mnist: Any) -> None:
    with pytest.raises(OutputError, match="is a directory: give the name of a file"):
        export_onnx(named(), tmp_path, images=mnist[:2])
    with pytest.raises(OutputError, match="does not exist: create it first"):
        export_onnx(named(), tmp_path / "x" / "m.onnx", images=mnist[:2])
    assert list(tmp_path.iterdir()) == []


def test_images_that_do_not_fit(tmp_path: Path, mnist: Any) -> None:
    for images, message in [
        (mnist[:2, :, 1:], r"expected uint8 \(1, 28, 28\) each, found uint8 \(1, 27, 28\)"),
        (mnist[:2] / 255, r"expected uint8 \(1, 28, 28\) each, found float64 \(1, 28, 28\)"),
        (mnist[:0], "expected at least one, found none"),
    ]:
        with pytest.raises(ExportError, match=message):
            export_onnx(named(), tmp_path / "m.onnx", images=images)
    # what does not fit inside a network is refused when it is built, so it never gets here
    with pytest.raises(ShapeError, match=r"layer 0 \(dense\)"):
        Network([Dense(10)], (1, 28, 28))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights(tmp_path: Path, mnist: Any, value: float) -> None:
    classifier = named()
    classifier.network.parameters()["3.weight"][0, 0, 0, 0] = value
    with pytest.raises(ExportError, match=r"layer 3 \(conv2d\): weight is not finite"):
        export_onnx(classifier, tmp_path / "m.onnx", images=mnist[:2])
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Lying(Classifier):
    """An engine with an error."""

    error: float = 0.0

    def probabilities(self, images: Any, *, threads: int = 1) -> Any:
        result = super().probabilities(images, threads=threads)
        result[-1, 3] += self.error
        return result


@pytest.mark.parametrize(
    ("error", "message"),
    [(1e-3, "differ by 1.0e-03"), (3e-5, "differ by 3.0e-05"), (np.nan, "differ by nan")],
)
def test_failed_self_check_writes_nothing(tmp_path: Path, mnist: Any, error: float, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"previous")
    lying = Lying(named("mlp").network, DIGITS, error=error)
    with pytest.raises(ExportError) as caught:
        export_onnx(lying, path, images=mnist[:5])
    assert str(caught.value).startswith("the self-check failed: probabilities ")
    assert message in str(caught.value)
    assert str(caught.value).endswith("; nothing was written")
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_invalid_graph_writes_nothing(tmp_path: Path, mnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(classifier: Classifier, form: OnnxForm) -> onnx.ModelProto:
        model = to_onnx(classifier, form)
        model.graph.node[1].input[0] = "nowhere"
        return model

    monkeypatch.setattr(onnx_export, "to_onnx", broken)
    with pytest.raises(ExportError) as caught:
        export_onnx(named("mlp"), tmp_path / "m.onnx", images=mnist[:2])
    assert str(caught.value).startswith("the self-check failed: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_gives_another_shape_writes_nothing(
    tmp_path: Path, mnist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(classifier: Classifier, form: OnnxForm) -> onnx.ModelProto:
        return to_onnx(
            Classifier(Network([Flatten(), Dense(7), Softmax()], (1, 28, 28)), tuple("0123456")), form
        )

    monkeypatch.setattr(onnx_export, "to_onnx", broken)
    message = (
        r"^the self-check failed: expected probabilities \(2, 10\), found \(2, 7\); nothing was written$"
    )
    with pytest.raises(ExportError, match=message):
        export_onnx(named("mlp"), tmp_path / "m.onnx", images=mnist[:2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layers", "found"),
    [([Flatten(), Dense(4)], r"layer 1 \(dense\)"), ([Softmax()], r"layer 0 \(softmax\)")],
)
def test_logits_are_what_the_last_layer_gets(layers: list[Layer], found: str) -> None:
    shape = (4,) if len(layers) == 1 else (1, 2, 2)
    with pytest.raises(ExportError, match=f"^{found}: logits are what a softmax or sigmoid gets"):
        to_onnx(Classifier(Network(layers, shape), tuple("abcd")), OnnxForm(logits=True))


def test_weights_that_overflow_are_a_failed_self_check(tmp_path: Path, mnist: Any) -> None:
    classifier = named("mlp")
    classifier.network.parameters()["1.weight"][...] = 3e38
    with pytest.raises(ExportError, match="the self-check failed: probabilities differ by nan"):
        export_onnx(classifier, tmp_path / "m.onnx", images=mnist[:2])


def test_the_proof_is_bounded(tmp_path: Path, mnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export_onnx(named("mlp"), tmp_path / "m.onnx", images=mnist[:300]).images == 256
    monkeypatch.setattr(onnx_export, "PROOF_MULTIPLY_ADDS", 101_632 * 5)
    assert export_onnx(named("mlp"), tmp_path / "m.onnx", images=mnist[:300]).images == 5
    monkeypatch.setattr(onnx_export, "PROOF_MULTIPLY_ADDS", 1)
    assert export_onnx(named("mlp"), tmp_path / "m.onnx", images=mnist[:300]).images == 1


def test_an_ensemble_is_one_graph_that_averages(tmp_path: Path) -> None:
    """Each member with its own pixels; onnxruntime says what the mean of both says."""
    members = tuple(
        Classifier(build("rsnet").initialize(seed), DIGITS, pixels, "rsnet")
        for seed, pixels in ((1, PixelScale()), (2, PixelScale(1 / 128, -1.0)))
    )
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 28, 28), dtype=np.uint8)
    expected = np.mean([member.probabilities(images) for member in members], axis=0)
    for name, form in (("a.onnx", OnnxForm()), ("b.onnx", OnnxForm(bytes_in=True, batch=8))):
        report = export_onnx(Ensemble(members), tmp_path / name, images=images, form=form)
        assert report.largest_difference < 1e-6
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": form.inputs(images)})
        np.testing.assert_allclose(found, expected, atol=1e-6)
    foreign = load_onnx(tmp_path / "a.onnx")
    assert "no simple chain" in foreign.obstacle
    np.testing.assert_allclose(foreign.predictor.probabilities(images), expected, atol=1e-6)
    with pytest.raises(ExportError, match=r"^--logits: an ensemble is the mean of probabilities"):
        export_onnx(Ensemble(members), tmp_path / "c.onnx", images=images, form=OnnxForm(logits=True))


def test_paths_may_be_text(tmp_path: Path, mnist: Any) -> None:
    path = str(tmp_path / "a.onnx")
    assert export_onnx(named("mlp"), path, images=mnist[:3]).path == tmp_path / "a.onnx"
    foreign = load_onnx(path)
    np.testing.assert_array_equal(
        foreign.predictor.probabilities(mnist[:3]), named("mlp").probabilities(mnist[:3])
    )


def ending_in(*last: Layer) -> Classifier:
    network = Network([Flatten(), Dense(3), *last], (1, 4, 4)).initialize(1)
    return Classifier(network, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ([], "none"),
        ([Tanh()], "none"),
        ([Softmax(), ReLU()], "none"),
        ([Softmax()], None),
        ([Sigmoid()], None),
    ],
)
def test_what_the_last_operator_does_not_tell_is_in_the_metadata(last: list[Layer], said: str | None) -> None:
    entries = {entry.key: entry.value for entry in to_onnx(ending_in(*last)).metadata_props}
    assert entries.get("activation") == said


@pytest.mark.parametrize("last", [[], [Tanh()], [Softmax(), ReLU()]])
def test_a_network_without_probabilities_comes_back_with_its_own_numbers(
    tmp_path: Path, last: list[Layer]
) -> None:
    classifier = ending_in(*last)
    images = np.random.default_rng(3).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    export_onnx(classifier, tmp_path / "a.onnx", images=images)
    foreign = load_onnx(tmp_path / "a.onnx")
    kind = classifier.network.layers[-1].kind
    assert foreign.obstacle == f"the last layer should be softmax or sigmoid, found {kind}"
    found = foreign.predictor.probabilities(images)
    note = "its outputs are no probabilities, and are taken as they are"
    assert foreign.notes == (() if 0 <= found.min() <= found.max() <= 1 else (note,))
    np.testing.assert_allclose(found, classifier.probabilities(images), atol=1e-6)
    assert foreign.predictor.class_names == ("a", "b", "c")
