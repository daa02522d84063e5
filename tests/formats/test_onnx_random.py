"""Random networks out and in again: engine, reference evaluator, onnxruntime and the import must agree."""

from collections.abc import Sequence

import numpy as np
import onnx
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from onnx_probes import Array, runtime

from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import (
    GELU,
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
from mnistnet.errors import ShapeError
from mnistnet.formats.onnx_export import IR_VERSIONS, OnnxForm, to_onnx
from mnistnet.formats.onnx_graph import graph_of
from mnistnet.formats.onnx_import import import_graph
from mnistnet.formats.onnx_reference import run_reference
from mnistnet.models import Classifier

TOLERANCE = 1e-4
pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
side = st.integers(0, 2)


@st.composite
def convolutions(draw: st.DrawFn, channels: int) -> Conv2d:
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, 4) if channels % g == 0]))
    padding = draw(st.tuples(side, side))
    return Conv2d(groups * draw(st.integers(1, 3)), draw(pair), draw(pair), padding, draw(pair), groups)


@st.composite
def pools(draw: st.DrawFn) -> Layer:
    kernel = draw(pair)
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    return draw(st.sampled_from([MaxPool2d, AvgPool2d]))(kernel, draw(pair), padding)


anywhere = st.one_of(
    st.just(ReLU()),
    st.builds(LeakyReLU, st.sampled_from([0.0, 0.01, 0.3])),
    st.just(Sigmoid()),
    st.just(Tanh()),
    st.builds(Sine, st.sampled_from([0.5, 2.0])),
    st.builds(GELU, st.sampled_from(["none", "tanh"])),
    st.builds(BatchNorm, st.sampled_from([1e-5, 1e-3])),
    st.builds(Dropout, st.sampled_from([0.2, 0.5])),
)


@st.composite
def classifiers(draw: st.DrawFn) -> Classifier:
    """Images, some layers on them, flatten, some dense layers, softmax or sigmoid."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    layers: list[Layer] = []
    current: tuple[int, ...] = shape
    for _ in range(draw(st.integers(0, 4))):
        padded = st.builds(ZeroPad2d, side, side, side, side)
        layer = draw(st.one_of(convolutions(current[0]), pools(), padded, anywhere))
        try:
            current = layer.output_shape(current)
        except ShapeError:  # it does not fit into what is left
            continue
        layers.append(layer)
    layers.append(draw(st.sampled_from([Flatten(), Flatten(), GlobalAvgPool()])))
    for _ in range(draw(st.integers(0, 2))):
        between = st.one_of(anywhere, st.builds(FourierFeatures, st.integers(1, 4)))
        layers += [Dense(draw(st.integers(1, 6))), draw(between)]
    layers += [Dense(draw(st.integers(1, 5))), draw(st.sampled_from([Softmax(), Sigmoid()]))]
    network = Network(layers, shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    for name, values in network.parameters().items():
        values[...] = rng.standard_normal(values.shape) * 0.5
        if name.endswith("running_var"):
            values[...] = rng.uniform(0.5, 2.0, values.shape)
    pixels = draw(st.sampled_from([PixelScale(), PixelScale(1 / 127.5, -1.0), PixelScale(1 / 255, -0.1307)]))
    return Classifier(network, tuple(f"class {i}" for i in range(*network.output_shape)), pixels)


forms = st.builds(
    OnnxForm,
    st.sampled_from(sorted(IR_VERSIONS)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
)


def batches(form: OnnxForm, images: Array) -> Sequence[Array]:
    inputs = form.inputs(images)
    return np.split(inputs, len(inputs) // form.batch) if form.batch else [inputs]


def zeros_under_a_pool() -> Classifier:
    """What onnxruntime takes for the pool's padding if it can: the numbers inside are below zero."""
    layers: list[Layer] = [ZeroPad2d(1, 1, 1, 1), MaxPool2d((3, 3), (1, 1)), Flatten(), Dense(2), Softmax()]
    network = Network(layers, (1, 4, 4)).initialize(0)
    return Classifier(network, ("a", "b"), PixelScale(-1 / 255, 0.0))


@settings(max_examples=200)
@example(zeros_under_a_pool(), OnnxForm(), 0)
@given(classifiers(), forms, st.integers(0, 99))
def test_everybody_agrees(classifier: Classifier, form: OnnxForm, seed: int) -> None:
    note(f"{classifier.network.layers} on {classifier.network.input_shape}")
    shape = (3, *classifier.network.input_shape)
    images = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    made = to_onnx(classifier, form)
    onnx.checker.check_model(made, full_check=True)
    expected = form.expected(classifier, images)
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    for run in (run_reference, runtime):
        found = np.concatenate([run(made, inputs) for inputs in batches(form, images)])
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= bound, run.__name__
    back = import_graph(graph_of(made))
    assert isinstance(back.predictor, Classifier), back.obstacle
    assert back.notes == ()
    assert back.predictor.class_names == classifier.class_names
    assert np.abs(back.predictor.probabilities(images) - classifier.probabilities(images)).max() <= TOLERANCE
