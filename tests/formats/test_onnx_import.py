"""ONNX models of other tools: what they become, and that they say the same as in onnxruntime."""

import json
import re
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_probes import MODELS, Array, digits, model, runtime

from mnistnet.data.dataset import Dataset
from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import GELU, Dense, Flatten, FourierFeatures, Layer, Sigmoid, Sine, Softmax
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, ShapeError
from mnistnet.formats import onnx_layers
from mnistnet.formats.foreign import Foreign
from mnistnet.formats.onnx_export import OnnxForm, to_onnx
from mnistnet.formats.onnx_graph import graph_of
from mnistnet.formats.onnx_import import OnnxModel, import_graph, load_onnx
from mnistnet.formats.onnx_layers import NotAChainError, chain_of
from mnistnet.formats.onnx_operators import limits
from mnistnet.models import Classifier, build
from mnistnet.training.trainer import Trainer, TrainingConfig

node = helper.make_node
RNG = np.random.default_rng(5)
UNIT = "bytes of a picture are divided by 255; use --input-scale if the model expects something else"
LOGITS = "its outputs are taken as logits, to which a softmax is applied"
LOGARITHMS = "its outputs are taken as logarithms of probabilities"
LENET = "conv2d relu max_pool2d conv2d relu max_pool2d flatten dense relu dense softmax"
GROUPS = "conv2d relu conv2d conv2d relu avg_pool2d flatten dense softmax"

OTHERS = {
    "lenet-old": (LENET, LOGARITHMS),
    "lenet-new": (LENET, LOGARITHMS),
    "mlp-old": ("flatten dense relu dense softmax", LOGITS),
    "mlp-new": ("flatten dense relu dense softmax", LOGITS),
    "batchnorm-old": (
        "conv2d batch_norm relu conv2d batch_norm leaky_relu global_avg_pool flatten dense softmax",
        "",
    ),
    "batchnorm-new": ("conv2d relu conv2d leaky_relu global_avg_pool dense softmax", ""),
    "groups-old": (GROUPS, LOGITS),
    "groups-new": (GROUPS, LOGITS),
    "cntk": ("conv2d relu max_pool2d conv2d relu max_pool2d flatten dense softmax", LOGITS),
    "keras": ("zero_pad2d conv2d relu max_pool2d flatten dense softmax", ""),
}
"""Every model of scripts/make_onnx_models.py: its layers, and what is said of its output."""


def softmax(values: Array) -> Array:
    e = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def truth(name: str, images: Array) -> Array:
    """What onnxruntime gives for pictures, as probabilities."""
    made = onnx.load(MODELS / f"{name}.onnx")
    inputs = images.astype(np.float32) / np.float32(255)
    if name == "keras":
        inputs = inputs.transpose(0, 2, 3, 1)
    batches = inputs[:, None] if name == "cntk" else [inputs]  # whose batch is 1 for ever
    outputs = np.concatenate([runtime(made, batch) for batch in batches])
    end = OTHERS[name][1]
    return softmax(outputs) if end == LOGITS else np.exp(outputs) if end == LOGARITHMS else outputs


def kinds(found: Foreign) -> str:
    assert isinstance(found.predictor, Classifier), found.obstacle
    return " ".join(layer.kind for layer in found.predictor.network.layers)


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_other_tools(name: str) -> None:
    found = load_onnx(MODELS / f"{name}.onnx")
    layers, end = OTHERS[name]
    assert kinds(found).replace("pool flatten dense", "pool dense") == layers.replace("pool flatten", "pool")
    assert found.notes == tuple(filter(None, (UNIT, end)))
    images = digits(40)
    expected = truth(name, images)
    assert expected.std(axis=0).max() > 1e-4
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_models_operator_by_operator(name: str) -> None:
    found = load_onnx(MODELS / f"{name}.onnx").predictor
    assert isinstance(found, Classifier)
    from mnistnet.formats.onnx_graph import load_graph

    graph = load_graph(MODELS / f"{name}.onnx")
    index = np.arange(784).reshape(28, 28, 1) if name == "keras" else np.arange(784).reshape(1, 28, 28)
    alone = OnnxModel(graph, (1, 28, 28), index, found.class_names, PixelScale())
    images = digits(5)
    assert np.abs(alone.probabilities(images) - truth(name, images)).max() < 1e-5


@pytest.mark.parametrize("name", ["batchnorm-old", "groups-new", "keras"])
def test_they_can_be_trained_further(name: str) -> None:
    classifier = load_onnx(MODELS / f"{name}.onnx").predictor
    assert isinstance(classifier, Classifier)
    labels = np.arange(64) % 10
    data = Dataset(digits(64), labels.astype(np.intp), classifier.class_names)
    config = TrainingConfig(learning_rate=0.01, nb_epochs=3, batch_size=32, workers=1)
    epochs = [result for result in Trainer(classifier, config).run(data) if not hasattr(result, "step")]
    assert epochs[-1].loss < epochs[0].loss


def test_our_own_come_back_to_the_bit() -> None:
    classifier = Classifier(build("lenet").initialize(3), tuple("abcdefghij"), PixelScale(1 / 255), "lenet")
    found = import_graph(graph_of(to_onnx(classifier)))
    assert isinstance(found.predictor, Classifier)
    assert (found.predictor.class_names, found.predictor.name) == (classifier.class_names, "lenet")
    assert found.predictor.pixels == classifier.pixels
    np.testing.assert_array_equal(found.predictor.network.vector, classifier.network.vector)
    raw = import_graph(graph_of(to_onnx(classifier, OnnxForm(bytes_in=True, logits=True))))
    assert raw.notes == ()
    np.testing.assert_allclose(
        raw.predictor.probabilities(digits(4)), classifier.probabilities(digits(4)), atol=1e-6
    )


def test_waves_come_back_to_the_bit() -> None:
    layers = [Flatten(), FourierFeatures(5, 0.25), Dense(4, init_bound=0.5), Sine(2.5), Dense(3), Softmax()]
    network = Network(layers, (1, 2, 3)).initialize(6)
    found = import_graph(graph_of(to_onnx(Classifier(network, ("a", "b", "c")))))
    assert kinds(found) == "flatten fourier_features dense sine dense softmax"
    assert isinstance(found.predictor, Classifier)
    assert found.predictor.network.layers[3] == Sine(2.5)
    np.testing.assert_array_equal(found.predictor.network.vector, network.vector)


def waves(**others: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes of Fourier features, some of them in another form."""
    nodes = {
        "product": node("MatMul", ["g", "w"], ["z"]),
        "cosine": node("Cos", ["z"], ["c"]),
        "sine": node("Sin", ["z"], ["s"]),
        "both": node("Concat", ["c", "s"], ["y"], axis=1),
    }
    return list((nodes | others).values())


def sine(factor: str | None) -> list[onnx.NodeProto]:
    """The sine of a product, with a factor in between if one is named."""
    product = node("MatMul", ["g", "w"], ["z"])
    between = [] if factor is None else [node("Mul", ["z", factor], ["m"])]
    return [product, *between, node("Sin", ["z" if factor is None else "m"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "layers"),
    [
        (waves(), "flatten fourier_features softmax"),
        (waves(both=node("Concat", ["s", "c"], ["y"], axis=1)), "no layer does this"),
        (waves(cosine=node("Cos", ["g"], ["c"])), "reads g: the graph is no simple chain"),
        (sine(None), "flatten dense sine softmax"),
        (sine("k"), "flatten dense sine softmax"),
        (sine("v"), "flatten dense sine softmax"),
    ],
    ids=["ours", "sines first", "of two values", "alone", "with its factor", "with a factor for each"],
)
def test_waves_of_others(nodes: list[onnx.NodeProto], layers: str) -> None:
    """Whatever becomes of them: the same numbers as in onnxruntime."""
    rng = np.random.default_rng(2)
    constants = {"w": rng.standard_normal((16, 3)), "k": np.array(1.5), "v": np.array([0.5, 2.0, 3.0])}
    made = model([node("Flatten", ["x"], ["g"]), *nodes], constants)
    found = import_graph(graph_of(made))
    assert layers in (found.obstacle or kinds(found))
    images = rng.integers(0, 256, (4, 1, 4, 4)).astype(np.uint8)
    expected = softmax(runtime(made, images.astype(np.float32) / np.float32(255)))
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


DENSE = {"w": RNG.standard_normal((16, 3)), "b": RNG.standard_normal(3)}
TAIL = [node("Flatten", ["f"], ["g"]), node("MatMul", ["g", "w"], ["m"]), node("Add", ["b", "m"], ["y"])]
CONV = {"k": RNG.standard_normal((2, 1, 3, 3)), "w": RNG.standard_normal((32, 3)), "b": DENSE["b"]}


def conv(*more: onnx.NodeProto, **attributes: Any) -> list[onnx.NodeProto]:
    return [node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], **attributes), *more, *TAIL]


GELU_TORCH = [
    node("Div", ["x", "sqrt2"], ["d"]),
    node("Erf", ["d"], ["e"]),
    node("Add", ["e", "one"], ["p"]),
    node("Mul", ["x", "p"], ["q"]),
    node("Mul", ["q", "half"], ["f"]),
]

FORMS: list[tuple[str, list[onnx.NodeProto], dict[str, Any], dict[str, Any]]] = [
    ("flatten dense softmax", [node("Identity", ["x"], ["f"]), *TAIL], DENSE, {}),
    (
        "flatten dense softmax",  # a scale in front is part of what a byte means
        [node("Sub", ["x", "mean"], ["s"]), node("Div", ["s", "std"], ["f"]), *TAIL],
        {**DENSE, "mean": np.array([0.3]), "std": np.array([[[0.5]]])},
        {},
    ),
    (
        "conv2d flatten dense softmax",  # numbers behind a convolution are taken into its weights
        conv(node("Mul", ["c", "a"], ["d"]), node("Sub", ["h", "d"], ["f"])),
        {**CONV, "a": np.array([[[2.0]], [[3.0]]]), "h": np.array([[[1.0]], [[-1.0]]])},
        {},
    ),
    (
        "gelu flatten dense softmax",
        [*GELU_TORCH, *TAIL],
        {**DENSE, "sqrt2": np.sqrt([2.0])[0], "one": 1.0, "half": 0.5},
        {},
    ),
    (
        "gelu flatten dense softmax",
        [node("Gelu", ["x"], ["f"], approximate="tanh"), *TAIL],
        DENSE,
        {"opset": 20},
    ),
    ("relu flatten dense softmax", [node("Max", ["x", "zero"], ["f"]), *TAIL], {**DENSE, "zero": 0.0}, {}),
    (
        "zero_pad2d avg_pool2d flatten dense softmax",
        [
            node(
                "AveragePool",
                ["x"],
                ["f"],
                kernel_shape=[2, 2],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=1,
            ),
            *TAIL,
        ],
        {**DENSE, "w": RNG.standard_normal((9, 3))},
        {},
    ),
    (
        "relu zero_pad2d max_pool2d flatten dense softmax",
        [
            node("Relu", ["x"], ["r"]),
            node("MaxPool", ["r"], ["f"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            *TAIL,
        ],
        {**DENSE, "w": RNG.standard_normal((4, 3))},
        {},
    ),
    (
        "max_pool2d flatten dense softmax",
        [node("GlobalMaxPool", ["x"], ["f"]), *TAIL],
        {**DENSE, "w": RNG.standard_normal((1, 3))},
        {},
    ),
    (
        "dropout flatten dense softmax",
        [
            node("Dropout", ["x"], ["f"], ratio=0.25),
            TAIL[0],
            node("Gemm", ["g", "w", "b"], ["y"], alpha=0.5),
        ],
        DENSE,
        {"opset": 7},
    ),
    ("flatten dense softmax", [node("Flatten", ["x"], ["g"]), node("Gemm", ["g", "w"], ["y"])], DENSE, {}),
    (
        "conv2d global_avg_pool dense softmax",
        [
            node("Conv", ["x", "k"], ["c"]),
            node("ReduceMean", ["c"], ["g"], axes=[2, 3], keepdims=0),
            *TAIL[1:],
        ],
        {**CONV, "w": RNG.standard_normal((2, 3))},
        {},
    ),
    (
        "conv2d flatten dense softmax",  # with the lowest number of its type a maximum is nothing
        conv(node("Max", ["c", "low"], ["f"])),
        {**CONV, "low": np.finfo(np.float32).min},
        {},
    ),
]


@pytest.mark.parametrize(("layers", "nodes", "constants", "options"), FORMS)
def test_forms_of_the_same(
    layers: str, nodes: list[onnx.NodeProto], constants: dict[str, Any], options: dict[str, Any]
) -> None:
    made = model(nodes, constants, **options)
    found = import_graph(graph_of(made))
    assert kinds(found) == layers
    images = RNG.integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    expected = softmax(runtime(made, images.astype(np.float32) / np.float32(255)))
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


def branches() -> list[onnx.NodeProto]:
    """A residual connection: no chain."""
    return conv(node("Relu", ["c"], ["r"]), node("Add", ["r", "c"], ["f"]))


def one_map(operator: str) -> list[onnx.NodeProto]:
    """Numbers for every pixel of the one map that a convolution gives."""
    return [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Flatten", ["c"], ["g"]),
        node(operator, ["g", "a"], ["s"]),
        node("MatMul", ["s", "w"], ["y"]),
    ]


OBSTACLES: list[tuple[list[onnx.NodeProto], dict[str, Any], str]] = [
    (branches(), CONV, r"node 2 \(Add\): reads c: the graph is no simple chain"),
    (conv(node("Elu", ["c"], ["f"])), CONV, r"node 1 \(Elu\): no layer does this"),
    (
        conv(node("MaxPool", ["c"], ["f"], kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[1, 1])),
        CONV,
        r"node 1 \(MaxPool\): pads one side more than the other, and not behind a Relu",
    ),
    (
        conv(node("Relu", ["c"], ["r"]), node("Mul", ["r", "a"], ["f"])),
        {**CONV, "a": np.array([2.0])},
        r"node 2 \(Mul\): only behind a convolution or a product",
    ),
    (
        conv(
            node("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),
            node("MaxPool", ["t"], ["f"], kernel_shape=[1, 1]),
        ),
        CONV,
        r"node 2 \(MaxPool\): expects images in the order N, C, H, W",
    ),
    (
        conv(node("Cast", ["c"], ["d"], to=TensorProto.DOUBLE), node("Cast", ["d"], ["f"], to=1)),
        CONV,
        r"node 1 \(Cast\): only a cast to float32 changes nothing",
    ),
    (conv(node("Add", ["c", "c"], ["f"])), CONV, r"node 1 \(Add\): reads the same value twice"),
    (
        conv(node("Div", ["a", "c"], ["f"])),
        {**CONV, "a": np.array([2.0])},
        r"node 1 \(Div\): divides by what flows through",
    ),
    (
        [node("Mul", ["x", "a"], ["f"]), *TAIL],
        {**DENSE, "a": np.arange(4.0)},
        r"node 0 \(Mul\): scales the input's elements differently",
    ),
    (
        [node("Relu", ["x"], ["r"]), node("Add", ["r", "a"], ["f"]), *TAIL],
        {**DENSE, "a": np.ones((3, 1, 1)), "w": RNG.standard_normal((48, 3))},
        r"node 1 \(Add\): its constant \(3, 1, 1\) does not fit \(1, 4, 4\)",
    ),
    (
        conv(node("Add", ["c", "a"], ["f"])),
        {**CONV, "a": np.arange(32.0).reshape(2, 4, 4)},
        r"node 1 \(Add\): its constant differs within a channel",
    ),
    (
        [node("MatMul", ["x", "x"], ["f"]), *TAIL],
        DENSE,
        r"node 0 \(MatMul\): its input 'x' depends on the images",
    ),
    (
        [
            node("Flatten", ["x"], ["g"]),
            node("MatMul", ["g", "w"], ["m"]),
            node("Squeeze", ["m", "a"], ["y"]),
        ],
        {"w": RNG.standard_normal((1, 16, 3)), "a": np.array([0])},
        r"node 1 \(MatMul\): multiplies by \(1, 16, 3\): expected a matrix",
    ),
    (
        [node("ReduceMean", ["x"], ["f"], axes=[2]), *TAIL],
        {**DENSE, "w": RNG.standard_normal((4, 3))},
        r"node 0 \(ReduceMean\): is not over height and width",
    ),
    (
        [node("Pad", ["x", "p", "a"], ["f"]), *TAIL],
        {**DENSE, "p": np.array([0, 0, 1, 0, 0, 0, 0, 0]), "a": 1.0, "w": RNG.standard_normal((20, 3))},
        r"node 0 \(Pad\): pads with something else than zeros, or not around the images",
    ),
    (
        conv(node("Max", ["c", "a"], ["f"])),
        {**CONV, "a": np.array([0.5])},
        r"node 1 \(Max\): is neither with 0 nor with the lowest number",
    ),
    (
        conv(
            node("Transpose", ["c"], ["t"], perm=[0, 2, 1, 3]),
            node("BatchNormalization", ["t", *"ijno"], ["f"]),
        ),
        {**CONV, "i": np.ones(4), "j": np.zeros(4), "n": np.zeros(4), "o": np.ones(4)},
        r"node 2 \(BatchNormalization\): expects channels or features, found \(4, 2, 4\) for each image",
    ),
    (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
            node("Flatten", ["t"], ["g"]),
            node("Softmax", ["g"], ["y"]),
        ],
        {},
        r"node 2 \(Softmax\): is not over the classes",
    ),
    (
        [node("Flatten", ["x"], ["g"]), node("LogSoftmax", ["g"], ["m"]), node("MatMul", ["m", "w"], ["y"])],
        DENSE,
        r"node 1 \(LogSoftmax\): is not the last node",
    ),
    (
        [node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), node("Flatten", ["t"], ["y"])],
        {},
        r"the output should be \(N, K\), found \(16,\) for each image",
    ),
    (
        [node("Relu", ["x"], ["r"]), node("Flatten", ["r"], ["y"])],
        {},
        r"expected features, found \(1, 4, 4\)",
    ),
    (
        [node("Identity", ["x"], ["f"]), *TAIL, node("Relu", ["y"], ["z"])],
        DENSE,
        r"the output is not what the last node gives",
    ),
    *(
        (
            one_map(operator),
            {"k": CONV["k"][:1], "a": np.arange(16.0), "w": DENSE["w"]},
            rf"node 2 \({operator}\): has 16 numbers, not one for each of 1 outputs above it",
        )
        for operator in ("Add", "Mul")
    ),
    (
        [node("Relu", ["x"], ["r"]), node("Mul", ["x", "a"], ["p"]), node("Sin", ["p"], ["f"]), *TAIL],
        {**DENSE, "a": np.array(2.0)},
        r"node 1 \(Mul\): reads x: the graph is no simple chain",
    ),
    (
        [node("Mul", ["x", "a"], ["p"]), node("Sin", ["p"], ["f"]), *TAIL],
        {**DENSE, "a": np.array(1e-9)},
        r"node 0 \(Mul\): omega must be a number in 1e-06 .. 1e\+06, found ",
    ),
]


@pytest.mark.parametrize(("nodes", "constants", "obstacle"), OBSTACLES)
def test_what_is_no_chain_runs_all_the_same(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], obstacle: str
) -> None:
    made = model(nodes, constants)
    found = import_graph(graph_of(made))
    assert isinstance(found.predictor, OnnxModel)
    assert re.match(obstacle, found.obstacle), found.obstacle
    images = RNG.integers(0, 256, (70, 1, 4, 4)).astype(np.uint8)
    outputs = runtime(made, images.astype(np.float32) / np.float32(255))
    expected = outputs if made.graph.node[-1].op_type == "Softmax" else softmax(outputs)
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


@pytest.mark.parametrize("batch", ["N", 4])
@pytest.mark.parametrize("element_type", [TensorProto.FLOAT, TensorProto.UINT8])
def test_images_that_do_not_fit_are_refused_and_none_give_none(batch: Any, element_type: int) -> None:
    """As by `Network.predict`: other pixels than the model's would give an answer too."""
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        node("Flatten", ["f"], ["g"]),
        node("MatMul", ["g", "w"], ["y"]),
    ]
    made = model(nodes, {"w": RNG.normal(size=(48, 3))}, element_type=element_type, shape=[batch, 3, 4, 4])
    found = OnnxModel(
        graph_of(made), (3, 4, 4), np.arange(48).reshape(3, 4, 4), ("a", "b", "c"), PixelScale()
    )
    images = RNG.integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
    assert found.probabilities(images).shape == (5, 3)
    nothing = found.probabilities(images[:0])
    assert (nothing.shape, nothing.dtype) == ((0, 3), np.float32)
    for shape in ((5, 3, 8, 8), (5, 4, 4, 3), (5, 48), (0, 3, 8, 8)):
        message = re.escape(f"images: expected (3, 4, 4) each, found {shape[1:]}")
        with pytest.raises(ShapeError, match=f"^{message}$"):
            found.probabilities(np.zeros(shape, np.uint8))


UNCHANGED = {
    "identity": node("Identity", ["p"], ["y"]),
    "reshape": node("Reshape", ["p", "two"], ["y"]),
    "flatten": node("Flatten", ["p"], ["y"]),
    "squeeze": node("Squeeze", ["p"], ["y"]),
    "cast": node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    "cast to double": node("Cast", ["p"], ["y"], to=TensorProto.DOUBLE),
    "dropout": node("Dropout", ["p"], ["y"]),
}
OBSTACLES_BEHIND = {
    "cast to double": "node 3 (Cast): only a cast to float32 changes nothing",
    "dropout": "the last layer should be softmax or sigmoid, found dropout",
}


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", "LogSoftmax", "Tanh"])
@pytest.mark.parametrize("behind", UNCHANGED)
def test_what_the_output_is_shows_behind_what_changes_nothing(last: str, behind: str) -> None:
    nodes = [*TAIL[:2], node(last, ["m"], ["p"]), UNCHANGED[behind]]
    made = model([node("Identity", ["x"], ["f"]), *nodes], {"w": DENSE["w"], "two": np.array([0, 3])})
    made.graph.output[0].type.tensor_type.elem_type = (
        TensorProto.DOUBLE if behind == "cast to double" else TensorProto.FLOAT
    )
    found = import_graph(graph_of(made))
    images = RNG.integers(0, 256, (5, 1, 4, 4)).astype(np.uint8)
    outputs = runtime(made, images.astype(np.float32) / np.float32(255))
    expected, note = {
        "LogSoftmax": (np.exp(outputs), LOGARITHMS),
        "Tanh": (softmax(outputs), LOGITS),
    }.get(last, (outputs, ""))
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5
    assert found.notes == tuple(filter(None, (UNIT, note)))


@pytest.mark.parametrize("behind", UNCHANGED)
def test_what_changes_nothing_behind_a_softmax_leaves_a_chain(behind: str) -> None:
    nodes = [node("Flatten", ["x"], ["g"]), node("MatMul", ["g", "w"], ["m"]), node("Softmax", ["m"], ["p"])]
    made = model([*nodes, UNCHANGED[behind]], {"w": DENSE["w"], "two": np.array([0, 3])})
    found = import_graph(graph_of(made))
    assert found.obstacle == OBSTACLES_BEHIND.get(behind, "")
    if not found.obstacle:
        assert kinds(found) == "flatten dense softmax"


def test_numbers_that_were_whole_in_between_are_no_probabilities() -> None:
    nodes = [
        node("Flatten", ["x"], ["g"]),
        node("Softmax", ["g"], ["p"]),
        node("Cast", ["p"], ["i"], to=TensorProto.INT64),
        node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    assert import_graph(graph_of(model(nodes))).notes == (UNIT, LOGITS)


def test_an_output_that_nothing_computes_is_logits() -> None:
    assert import_graph(graph_of(model([node("Flatten", ["x"], ["y"])]))).notes == (UNIT, LOGITS)


@pytest.mark.parametrize("last", [(Sigmoid(), Softmax()), (Softmax(), Sigmoid())])
def test_our_own_metadata_count_more_than_the_last_operator(last: tuple[Layer, ...]) -> None:
    network = Network([Flatten(), Dense(3), *last], (1, 4, 4)).initialize(1)
    classifier = Classifier(network, ("a", "b", "c"))
    found = import_graph(graph_of(to_onnx(classifier, OnnxForm(logits=True))))
    assert isinstance(found.predictor, Classifier)
    assert found.notes == ()
    assert found.predictor.network.layers == network.layers
    images = RNG.integers(0, 256, (5, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(found.predictor.probabilities(images), classifier.probabilities(images))


def test_a_bias_for_each_image_is_no_bias() -> None:
    """Of shape (N, 1), where a batch has as many images as there are classes."""
    nodes = [
        node("Flatten", ["x"], ["g"]),
        node("Gemm", ["g", "w", "c"], ["m"]),
        node("Sigmoid", ["m"], ["y"]),  # a softmax would not show it
    ]
    constants = {"w": DENSE["w"], "c": np.array([[0.5], [1.0], [-2.0]])}
    made = model(nodes, constants, shape=(3, 1, 4, 4))
    found = import_graph(graph_of(made))
    assert found.obstacle == "node 1 (Gemm): a bias of (3, 1): expected one number for each of 3 outputs"
    images = RNG.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    expected = runtime(made, images.astype(np.float32) / np.float32(255))
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,), (1, 3)])
def test_a_bias_in_every_form(shape: tuple[int, ...]) -> None:
    nodes = [node("Flatten", ["x"], ["g"]), node("Gemm", ["g", "w", "c"], ["y"])]
    made = model(nodes, {"w": DENSE["w"], "c": RNG.standard_normal(shape)})
    found = import_graph(graph_of(made))
    assert kinds(found) == "flatten dense softmax"
    images = RNG.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    expected = softmax(runtime(made, images.astype(np.float32) / np.float32(255)))
    assert np.abs(found.predictor.probabilities(images) - expected).max() < 1e-5


def test_numbers_in_arrays_of_one() -> None:
    """A Pad's value and a Dropout's ratio of shape (1,), as some write them."""
    pads = np.array([0, 0, 1, 0, 0, 0, 0, 0])
    constants = {
        **DENSE,
        "p": pads,
        "v": np.zeros(1),
        "r": np.full(1, 0.25),
        "w": RNG.standard_normal((20, 3)),
    }
    nodes = [node("Pad", ["x", "p", "v"], ["a"]), node("Dropout", ["a", "r"], ["f"]), *TAIL]
    assert kinds(import_graph(graph_of(model(nodes, constants)))) == (
        "zero_pad2d dropout flatten dense softmax"
    )


def folded(count: int, tail: list[onnx.NodeProto]) -> onnx.ModelProto:
    """``count`` arrays of 1024 elements, each made from the one before; the last becomes one number."""
    nodes = [node("ConstantOfShape", ["s"], ["c0"])]
    nodes += [node("Neg", [f"c{i}"], [f"c{i + 1}"]) for i in range(count)]
    nodes += [node("ReduceSum", [f"c{count}"], ["sum"], keepdims=0), node("Add", ["x", "sum"], ["f"])]
    return model([*nodes, *tail], {**DENSE, "s": np.array([1024])})


def test_constants_that_are_read_no_more_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ELEMENTS", 3 * 1024)
    chain = chain_of(graph_of(folded(90, TAIL)), (1, 4, 4), np.arange(16).reshape(1, 4, 4))
    assert [layer.kind for layer in chain.layers] == ["flatten", "dense"]
    assert set(chain.constants) == {"sum", "w", "b"}


def test_constants_of_the_images_shape_are_not_kept_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are worked out while the chain is followed."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("ConstantOfShape", ["s"], ["c0"]),
        *(node("Neg", [f"c{i}"], [f"c{i + 1}"]) for i in range(90)),
        node("ReduceSum", ["c90"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["f"]),
    ]
    monkeypatch.setattr(limits, "MOST_ELEMENTS", 2000)  # of 91 arrays of 32
    chain = chain_of(graph_of(model([*nodes, *TAIL], DENSE)), (1, 4, 4), np.arange(16).reshape(1, 4, 4))
    assert set(chain.constants) == {"sum", "w", "b"}


def test_constants_that_a_chain_must_keep_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that runs makes each where it is read."""
    nodes = [node("Identity", ["x"], ["x0"])]
    for i in range(20):
        nodes += [node("ConstantOfShape", ["s"], [f"c{i}"]), node("Add", [f"x{i}", f"c{i}"], [f"x{i + 1}"])]
    nodes += [node("Identity", ["x20"], ["f"]), *TAIL]
    graph = graph_of(model(nodes, {**DENSE, "s": np.array([1, 1, 4, 4])}))
    monkeypatch.setattr(limits, "MOST_ELEMENTS", 250)
    found = import_graph(graph)
    assert re.match(r"node \d+ \(ConstantOfShape\): arrays of \[\d+\]: expected at most 250", found.obstacle)


def test_a_model_without_any_layer_runs_all_the_same() -> None:
    nodes = [node("Flatten", ["x"], ["y"])]
    found = import_graph(graph_of(model(nodes, metadata={"activation": "none"})))
    assert found.obstacle == "empty network: expected at least one layer"
    images = RNG.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_allclose(found.predictor.probabilities(images), images.reshape(2, 16) / 255, rtol=1e-6)


def test_a_bias_of_one_number_for_all_channels_is_no_layers() -> None:
    """The operators spread it, a layer does not."""
    conv_one = [node("Conv", ["x", "k", "one"], ["f"], pads=[1, 1, 1, 1]), *TAIL]
    found = import_graph(graph_of(model(conv_one, {**CONV, "one": np.array([0.5])})))
    assert found.obstacle == "node 0 (Conv): its bias should be (2,), found (1,)"
    twice = import_graph(
        graph_of(
            model(
                [node("Conv", ["x", "k", "one"], ["f"], pads=[1, 1, 1, 1]), *TAIL],
                {**CONV, "one": np.array([0.5, 0.5])},
            )
        )
    )
    images = RNG.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_allclose(
        found.predictor.probabilities(images), twice.predictor.probabilities(images), atol=1e-6
    )


def test_a_transposed_product_needs_a_fixed_batch_and_is_no_layer() -> None:
    nodes = [node("Flatten", ["x"], ["g"]), node("Gemm", ["g", "w"], ["y"], transA=1)]
    found = import_graph(graph_of(model(nodes, {"w": DENSE["w"]}, shape=[16, 1, 4, 4])))
    assert found.obstacle == "node 1 (Gemm): transposes the images"
    images = RNG.integers(0, 256, (16, 1, 4, 4)).astype(np.uint8)
    rows = (images / 255).reshape(16, 16).T @ DENSE["w"]
    assert np.abs(found.predictor.probabilities(images) - softmax(rows)).max() < 1e-5


def test_what_opset_6_called_broadcasting_goes_into_the_weights() -> None:
    """``axis`` says where the second operand's shape lies in the first's."""
    constants = {**CONV, "a": np.array([2.0, -3.0])}
    old = conv(node("Mul", ["c", "a"], ["f"], broadcast=1, axis=1))
    old[-1] = node("Add", ["m", "b"], ["y"], broadcast=1)
    new = conv(node("Mul", ["c", "a"], ["f"]))
    before = import_graph(graph_of(model(old, constants, opset=6)))
    after = import_graph(graph_of(model(new, {**constants, "a": constants["a"][:, None, None]})))
    assert kinds(before) == kinds(after) == "conv2d flatten dense softmax"
    images = RNG.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(
        before.predictor.probabilities(images), after.predictor.probabilities(images)
    )


@pytest.mark.parametrize(
    ("nodes", "constants", "options", "obstacle"),
    [
        ([node("Gemm", ["x"], ["y"])], {}, {}, r"node 0 \(Gemm\): its input 1 is missing"),
        (
            [node("Flatten", ["x"], ["g"]), node("MatMul", ["g", "w"], ["y"])],
            {"w": np.ones((15, 3))},
            {},
            r"node 1 \(MatMul\): a weight of \(3, 15\) does not fit 16 features",
        ),
        (
            [node("Conv", ["x", "k"], ["y"])],
            {"k": np.ones((2, 1, 3))},
            {},
            r"node 0 \(Conv\): a weight of \(2, 1, 3\): expected \(K, C, R, S\)",
        ),
        (
            [node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9])],
            {},
            {},
            r"node 0 \(MaxPool\): a kernel of 9 does not fit into 4 pixels",
        ),
        *(
            (
                [node("Mul", ["x", "a"], ["m"]), node("Sin", ["m"], ["y"])],
                {"a": np.array(factor)},
                {},
                rf"node 0 \(Mul\): omega must be a number in 1e-06 .. 1e\+06, found {factor}",
            )
            for factor in (1e7, np.inf)
        ),
        (
            [node("Flatten", ["x"], ["g"]), *waves(product=node("MatMul", ["g"], ["z"]))],
            {},
            {},
            r"node 1 \(MatMul\): tuple index out of range",
        ),
        (
            [node("Dropout", ["x", "r", "t"], ["y"])],
            {"r": 0.5, "t": np.array(1)},
            {},
            r"node 0 \(Dropout\): is in training mode",
        ),
        (
            [node("BatchNormalization", ["x", *"cccc"], ["y"], training_mode=1)],
            {"c": np.ones(1)},
            {"opset": 14},
            r"node 0 \(BatchNormalization\): is in training mode",
        ),
    ],
)
def test_what_is_in_the_way_is_named(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], options: dict[str, Any], obstacle: str
) -> None:
    """Graphs that could not be run either, which is seen before anybody asks for their chain."""
    graph = graph_of(model(nodes, constants, **options))
    with pytest.raises(NotAChainError, match=f"^{obstacle}"):
        chain_of(graph, (1, 4, 4), np.arange(16).reshape(1, 4, 4))


def test_more_elements_than_can_be_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(model([node("Identity", ["x"], ["f"]), *TAIL], DENSE))
    monkeypatch.setattr(limits, "MOST_ELEMENTS", 31)  # of two images, 32
    with pytest.raises(NotAChainError, match=r"^node 0 \(Identity\): 2 images of \(1, 4, 4\) are too large"):
        chain_of(graph, (1, 4, 4), np.arange(16).reshape(1, 4, 4))


def test_a_network_that_differs_from_its_graph_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of an import: here of one whose handler lies."""
    monkeypatch.setitem(onnx_layers._HANDLERS, "Relu", onnx_layers._HANDLERS["Sigmoid"])
    found = import_graph(graph_of(model([node("Relu", ["x"], ["f"]), *TAIL], DENSE)))
    assert isinstance(found.predictor, OnnxModel)
    assert found.obstacle.startswith("the network that it became differs by ")


def flat(shape: list[Any], **options: Any) -> onnx.ModelProto:
    """A dense layer on an input of ``shape``, which is flattened first."""
    return model([node("Identity", ["x"], ["f"]), *TAIL], DENSE, shape=shape, **options)


@pytest.mark.parametrize(
    ("shape", "wanted", "expected"),
    [
        (["N", 16], None, (1, 4, 4)),
        (["N", 16], (1, 2, 8), (1, 2, 8)),
        (["N", 2, 8], None, (1, 2, 8)),
        (["N", 4, 2, 2], None, (4, 2, 2)),
        (["N", 4, 4, 1], None, (1, 4, 4)),
        (["N", 1, None, "W"], (1, 8, 2), (1, 8, 2)),
        ([2, 1, 4, 4], None, (1, 4, 4)),
    ],
)
def test_input_shapes(shape: list[Any], wanted: Any, expected: Any) -> None:
    made = flat(shape)
    found = import_graph(graph_of(made), input_shape=wanted).predictor
    assert found.input_shape == expected
    images = RNG.integers(0, 256, (3, *expected)).astype(np.uint8)
    rows = (images / 255).reshape(3, 16) @ DENSE["w"] + DENSE["b"]
    assert np.abs(found.probabilities(images) - softmax(rows)).max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "wanted", "message"),
    [
        (["N", 1, None, None], None, r"found \(\?, 1, \?, \?\): say what is free with --input-shape"),
        (["N", 15], None, "15 features are no square picture: say it with --input-shape"),
        (
            ["N", 1, 4, 4],
            (1, 2, 8),
            r"--input-shape: \(1, 2, 8\) does not fit the model's input \(\?, 1, 4, 4\)",
        ),
        (["N", 1, 2**15, 2**15], None, r"\(\?, 1, 32768, 32768\) is too large: expected at most 16777216"),
        ([2**40, 1, 4, 4], None, r"\(1099511627776, 1, 4, 4\) is too large"),
        (["N"], None, r"expected \(N, C, H, W\) with C, H and W fixed, found \(\?\)"),
        (["N", 1, 5, 5], None, r"node 2 \(MatMul\): cannot be computed as the file has it"),
    ],
)
def test_input_shapes_that_are_no_pictures(shape: list[Any], wanted: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_graph(graph_of(flat(shape)), input_shape=wanted)


def test_an_output_that_is_no_batch_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    onnx.save_model(model([node("Relu", ["x"], ["y"])]), path)
    with pytest.raises(
        CheckpointError, match=r"relu\.onnx: the model's output: expected \(3, K\) numbers, found float32"
    ):
        load_onnx(path)
    two = model([node("Relu", ["x"], ["y"])])
    two.graph.output.append(two.graph.output[0])
    with pytest.raises(CheckpointError, match="one input and one output, found 1 inputs and 2 outputs"):
        import_graph(graph_of(two))


@pytest.mark.parametrize(
    ("element_type", "found"),
    [
        (TensorProto.INT64, r"int64 \(\?, 16\)"),
        (TensorProto.UINT16, r"uint16 \(\?, 16\)"),
        (TensorProto.UINT32, r"uint32 \(\?, 16\)"),
        (TensorProto.UINT64, r"uint64 \(\?, 16\)"),
        (TensorProto.STRING, r"another type \(\?, 16\)"),
    ],
)
def test_inputs_that_take_no_pixels(element_type: int, found: str) -> None:
    """A byte divided by 255 would be 0 or 1 as a whole number."""
    made = flat(["N", 16], element_type=element_type)
    message = rf"^input 'x': expected a batch of floats or bytes \(uint8\), found {found}$"
    with pytest.raises(CheckpointError, match=message):
        import_graph(graph_of(made))


def test_names_and_scale_come_from_metadata_or_the_caller() -> None:
    said = {"classes": json.dumps(["a", "b", "c"]), "input_scale": "2.0", "input_shift": "-1.0", "model": "m"}
    found = import_graph(graph_of(flat(["N", 16], metadata=said)))
    assert isinstance(found.predictor, Classifier)
    assert (found.predictor.class_names, found.predictor.name) == (("a", "b", "c"), "m")
    assert found.predictor.pixels == PixelScale(2.0, -1.0)
    assert found.notes == (LOGITS,)
    told = import_graph(graph_of(flat(["N", 16], metadata=said)), pixels=PixelScale(0.5))
    assert isinstance(told.predictor, Classifier)
    assert told.predictor.pixels == PixelScale(0.5)
    for classes in ('["a", "b"]', '["a", "a", "b"]', "[1, 2, 3]", "nonsense"):
        odd = import_graph(graph_of(flat(["N", 16], metadata={"classes": classes, "input_scale": "inf"})))
        assert odd.predictor.class_names == ("0", "1", "2")
        assert UNIT in odd.notes


def test_gelu_is_known_by_its_curve_only() -> None:
    """Half of it is something else, and no layer."""
    constants = {**DENSE, "sqrt2": np.sqrt([2.0])[0], "one": 1.0, "half": 0.25}
    found = import_graph(graph_of(model([*GELU_TORCH, *TAIL], constants)))
    assert isinstance(found.predictor, OnnxModel)
    layers: list[Layer] = [GELU()]
    x = np.linspace(-3, 3, 7, dtype=np.float32)[None]
    expected = [v * (1 + erf(v / np.sqrt(2))) / 2 for v in x[0]]
    np.testing.assert_allclose(Network(layers, (7,)).predict(x)[0], expected, atol=1e-6)
