"""What every registered layer promises, whoever wrote it: one suite over all of them.

A new layer needs one line in `EXAMPLES`; without it `test_every_registered_layer_has_an_example` fails.
"""

import json
from dataclasses import dataclass, fields
from math import prod

import numpy as np
import pytest
from engine_probes import Array, Offset, WeightedSum, engine_axes, spaced
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.arrays import Shape
from mnistnet.engine.blas import one_thread
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
    layer_from_config,
)
from mnistnet.engine.layers.base import call
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan
from mnistnet.engine.workspace import Workspace


@dataclass(frozen=True)
class Example:
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    """Worked out by hand."""

    def __str__(self) -> str:
        return f"{self.layer}-{self.input_shape}".replace(" ", "")


EXAMPLES = [
    Example(Dense(4), (6,), (4,)),
    Example(Dense(1), (1,), (1,)),
    Example(Dense(33), (5,), (33,)),
    Example(Dense(3, init_bound=0.5), (4,), (3,)),
    Example(Conv2d(3, (2, 2)), (2, 4, 5), (3, 3, 4)),
    Example(Conv2d(2, (3, 2), stride=(2, 1), padding=(1, 0)), (3, 5, 4), (2, 3, 3)),
    Example(Conv2d(2, (2, 3), stride=(1, 2), padding=(0, 2)), (1, 4, 4), (2, 3, 3)),
    Example(Conv2d(2, (3, 3), padding=(1, 1)), (2, 3, 3), (2, 3, 3)),
    Example(Conv2d(34, (1, 2)), (1, 2, 3), (34, 2, 2)),
    Example(Conv2d(4, (2, 2), groups=2), (6, 3, 3), (4, 2, 2)),
    Example(Conv2d(6, (3, 3), padding=(1, 1), groups=3), (3, 4, 3), (6, 4, 3)),
    Example(Conv2d(2, (2, 3), dilation=(2, 1)), (2, 5, 4), (2, 3, 2)),
    Example(Conv2d(4, (2, 2), (2, 1), (1, 2), dilation=(1, 3), groups=2), (2, 4, 3), (4, 3, 4)),
    Example(ZeroPad2d(1, 0, 2, 1), (2, 3, 2), (2, 4, 5)),
    Example(ZeroPad2d(), (1, 2, 2), (1, 2, 2)),
    Example(MaxPool2d((2, 2)), (2, 4, 4), (2, 2, 2)),
    Example(MaxPool2d((2, 2)), (1, 5, 3), (1, 2, 1)),
    Example(MaxPool2d((2, 3), stride=(1, 2)), (2, 4, 5), (2, 3, 2)),
    Example(MaxPool2d((3, 2), stride=(2, 1), padding=(1, 1)), (2, 5, 3), (2, 3, 4)),
    Example(MaxPool2d((1, 2), stride=(2, 3)), (2, 4, 6), (2, 2, 2)),
    Example(AvgPool2d((2, 2)), (2, 4, 4), (2, 2, 2)),
    Example(AvgPool2d((2, 2)), (1, 5, 3), (1, 2, 1)),
    Example(AvgPool2d((2, 3), stride=(1, 2)), (2, 4, 5), (2, 3, 2)),
    Example(AvgPool2d((3, 2), stride=(2, 1), padding=(1, 1)), (2, 5, 3), (2, 3, 4)),
    Example(AvgPool2d((1, 2), stride=(2, 3)), (2, 4, 6), (2, 2, 2)),
    Example(GlobalAvgPool(), (2, 3, 4), (2,)),
    Example(GlobalAvgPool(), (3, 1, 1), (3,)),
    Example(Flatten(), (2, 3, 4), (24,)),
    Example(Flatten(), (1, 3, 4), (12,)),
    Example(Flatten(), (3, 1, 4), (12,)),
    Example(Flatten(), (7,), (7,)),
    Example(ReLU(), (2, 3, 4), (2, 3, 4)),
    Example(ReLU(), (9,), (9,)),
    Example(LeakyReLU(0.125), (2, 3, 4), (2, 3, 4)),
    Example(LeakyReLU(0.0), (9,), (9,)),
    Example(LeakyReLU(1.0), (9,), (9,)),
    Example(Sigmoid(), (2, 3, 4), (2, 3, 4)),
    Example(Sigmoid(), (9,), (9,)),
    Example(Tanh(), (2, 3, 4), (2, 3, 4)),
    Example(Tanh(), (9,), (9,)),
    Example(GELU(), (2, 3, 4), (2, 3, 4)),
    Example(GELU(), (9,), (9,)),
    Example(GELU("tanh"), (2, 3, 4), (2, 3, 4)),
    Example(Sine(2.0), (2, 3, 4), (2, 3, 4)),
    Example(Sine(), (9,), (9,)),
    Example(FourierFeatures(3, 0.25), (2,), (6,)),
    Example(FourierFeatures(1), (1,), (2,)),
    Example(FourierFeatures(20, 0.1), (5,), (40,)),
    Example(BatchNorm(), (2, 3, 4), (2, 3, 4)),
    Example(BatchNorm(epsilon=0.5, momentum=1.0), (7,), (7,)),
    Example(Dropout(0.25), (2, 3, 4), (2, 3, 4)),
    Example(Dropout(0.0), (9,), (9,)),
    Example(Softmax(), (5,), (5,)),
    Example(Softmax(), (1,), (1,)),
]

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=str)
TRAINED_APART = {"batch_norm", "dropout"}
"""What predicts in another way than it trains: test_normalization.py and test_dropout.py say in which."""
N = 3
STEP = 1e-6
"""Far below the gap of `spaced`: nothing flips."""


def network_of(example: Example, n: int = N, dtype: type = np.float64, seed: int = 1) -> Network:
    """The example on top of an `Offset`, which holds the layer's input and shows the input's gradient."""
    network = Network([Offset(n), example.layer], example.input_shape, dtype).initialize(seed)
    rng = np.random.default_rng(seed)
    for view in network.parameters().values():  # biases start all equal, where mistakes do not show
        view[...] += 0.3 * rng.standard_normal(view.shape)
    network.parameters()["0.offset"][...] = spaced((n, *example.input_shape), seed)
    return network


def weights_of(example: Example, n: int = N) -> Array:
    return np.random.default_rng(7).standard_normal((n, *example.output_shape))


def zeros_of(example: Example, n: int = N, dtype: type = np.float64) -> Array:
    return np.zeros((n, *example.input_shape), dtype)


def gradients_of(network: Network, example: Example, n: int = N) -> dict[str, Array]:
    images = zeros_of(example, n, network.dtype.type)
    loss = WeightedSum(weights_of(example, n))
    return network.loss_and_gradients(images, np.zeros(n, np.intp), loss)[1]


def test_every_registered_layer_has_an_example():
    assert {example.layer.kind for example in EXAMPLES} == set(LAYER_KINDS)


def test_kinds_are_their_classes():
    for kind, cls in LAYER_KINDS.items():
        assert cls.kind == kind


@every_example
def test_shape_rule_and_real_output_agree(example):
    assert example.layer.output_shape(example.input_shape) == example.output_shape
    network = Network([example.layer], example.input_shape, np.float64).initialize(0)
    assert network.output_shape == example.output_shape
    assert network.predict(spaced((5, *example.input_shape), 0)).shape == (5, *example.output_shape)


@every_example
def test_parameters_are_those_of_the_shape_rule(example):
    network = Network([example.layer], example.input_shape)
    shapes = {name: view.shape for name, view in network.layers[0].params.items()}
    assert shapes == example.layer.parameter_shapes(example.input_shape)
    names = [name for operation in network.layers[0].operations() for name in operation.parameter_names]
    assert sorted([*names, *network.layers[0].statistics]) == sorted(shapes)


@every_example
def test_configuration_survives_json(example):
    text = json.dumps(example.layer.config())
    again = layer_from_config(example.layer.kind, json.loads(text))
    assert type(again) is type(example.layer)
    assert again == example.layer
    assert json.dumps(again.config()) == text
    defaulted = {"dilation", "groups", "init_bound"}  # left out where they say nothing
    assert set(again.config()) | defaulted == {f.name for f in fields(again) if f.init} | defaulted


@every_example
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_follows_the_parameters(example, dtype):
    network = network_of(example, dtype=dtype)
    assert network.predict(zeros_of(example)).dtype == dtype
    assert {g.dtype.type for g in gradients_of(network, example).values()} == {dtype}


@every_example
def test_float32_and_float64_agree(example):
    single, double = network_of(example, dtype=np.float32), network_of(example, dtype=np.float64)
    double.vector[...] = single.vector
    images = zeros_of(example)
    assert_allclose(single.predict(images), double.predict(images), rtol=1e-5, atol=1e-5)
    expected = gradients_of(double, example)
    for name, gradient in gradients_of(single, example).items():
        assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@every_example
def test_gradients_are_difference_quotients(example):
    """Every parameter's gradient, and the input's: it is the offset's."""
    network = network_of(example)
    objective = Step(network, example).objective
    for name, gradient in gradients_of(network, example).items():
        parameter = network.parameters()[name]
        for index in np.ndindex(parameter.shape):
            before = parameter[index]
            parameter[index] = before + STEP
            above = objective()
            parameter[index] = before - STEP
            below = objective()
            parameter[index] = before
            assert gradient[index] == pytest.approx((above - below) / (2 * STEP), rel=1e-6, abs=1e-8), (
                f"{name}{list(index)}"
            )


@every_example
def test_directional_derivative(example):
    """The cheap form: <v, gradient> against one difference along v."""
    network = network_of(example)
    objective = Step(network, example).objective
    gradient = np.concatenate([g.ravel() for g in gradients_of(network, example).values()])
    direction = np.random.default_rng(3).standard_normal(network.trainable)
    trained = network.vector[: network.trainable]
    start = trained.copy()
    trained[...] = start + STEP * direction
    above = objective()
    trained[...] = start - STEP * direction
    below = objective()
    assert gradient @ direction == pytest.approx((above - below) / (2 * STEP), rel=1e-6, abs=1e-8)


class Step:
    """A training plan with gradients of its own."""

    def __init__(self, network: Network, example: Example, workspace: Workspace | None = None, n: int = N):
        self.vector = np.zeros_like(network.vector)
        self.loss = WeightedSum(weights_of(example, n))
        gradients = network.views(self.vector)
        self.plan = Plan(network.blueprint(), n, loss=self.loss, gradients=gradients, workspace=workspace)

    def run(self, rows: Array) -> tuple[bytes, bytes, bytes]:
        """The bits of output, loss and gradients."""
        self.vector.fill(np.nan)
        with one_thread():
            self.plan.prepare()
            self.plan.load(rows, slice(None))
            self.plan.run()
        return self.loss.outputs.tobytes(), self.plan.loss.loss.tobytes(), self.vector.tobytes()

    def objective(self) -> float:
        """What `gradients_of` differentiates."""
        self.run(np.zeros((self.plan.size, prod(self.plan.blueprint.input_shape))))
        return float(self.plan.loss.loss)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.layer.kind not in TRAINED_APART], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_forward_is_inference_bit_for_bit(example, dtype):
    network = network_of(example, dtype=dtype)
    rows = spaced((N, *example.input_shape), 2).reshape(N, -1).astype(dtype)
    expected = network.predict(rows.reshape(N, *example.input_shape))
    training = Step(network, example)
    training.run(rows)
    assert_array_equal(training.loss.outputs, engine_axes(expected), strict=True)


@every_example
@pytest.mark.parametrize("n", [1, 3, 16])
def test_running_twice_gives_the_same_bits(example, n):
    network = network_of(example, n, np.float32)
    step = Step(network, example, n=n)
    one, other = (spaced((n, *example.input_shape), s).reshape(n, -1).astype(np.float32) for s in (4, 5))
    first = step.run(one)
    assert b"\0" * len(first[0]) != first[0]
    step.run(other)
    assert step.run(one) == first


@every_example
@pytest.mark.parametrize("n", [1, 3, 16])
def test_a_plan_in_a_shared_workspace_gives_the_same_bits(example, n):
    network = network_of(example, n, np.float32)
    private = Step(network, example, n=n)
    host = Step(network, example, n=n)
    guest = Step(network, example, host.plan.workspace, n=n)
    assert guest.plan.workspace is host.plan.workspace
    batches = [spaced((n, *example.input_shape), s).reshape(n, -1).astype(np.float32) for s in range(3)]
    expected = [private.run(rows) for rows in batches]
    for turn in range(2):
        for rows, bits in zip(batches, expected, strict=True):
            assert host.run(rows) == bits, f"host, turn {turn}"
            assert guest.run(rows) == bits, f"guest, turn {turn}"


@every_example
def test_predictions_have_the_same_bits_with_any_number_of_threads(example):
    network = Network([example.layer], example.input_shape).initialize(0)
    images = np.random.default_rng(0).standard_normal((32 * 12 + 5, *example.input_shape))
    images = images.astype(np.float32)
    expected = network.predict(images, threads=1)
    for threads in (2, 3):
        assert_array_equal(network.predict(images, threads=threads), expected, strict=True)


@every_example
def test_backward_writes_every_gradient(example):
    """Nothing is left as it was in the gradient vector, whatever was there before."""
    network = network_of(example)
    step = Step(network, example)
    step.run(zeros_of(example).reshape(N, -1))
    assert np.isfinite(step.vector).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("layer", "input_shape", "fan_in"),
    [(Dense(300), (150,), 150), (Conv2d(60, (5, 3)), (20, 9, 9), 20 * 5 * 3)],
    ids=["dense", "conv2d"],
)
def test_he_initialization(layer, input_shape, fan_in, dtype):
    """Weights from N(0, 2 / ((1 + 5) fan in)), He et al. 2015; biases just off the ReLU's kink."""
    network = Network([layer], input_shape, dtype).initialize(11)
    weight, bias = network.parameters()["0.weight"], network.parameters()["0.bias"]
    assert weight.size >= 18000
    # the standard error of a variance is sqrt(2 / size) of it: 1 % here
    assert weight.astype(np.float64).var() == pytest.approx(2 / (6 * fan_in), rel=0.05)
    assert abs(weight.astype(np.float64).mean()) < 5 * np.sqrt(2 / fan_in / weight.size)
    # a normal distribution has 31.7 % of its values beyond one standard deviation
    assert np.mean(np.abs(weight) > np.sqrt(2 / (6 * fan_in))) == pytest.approx(0.317, abs=0.02)
    assert_array_equal(bias, np.asarray(0.01, dtype))


@pytest.mark.parametrize(
    ("layer", "input_shape", "expected"),
    [
        (Dense(10), (128,), 1280),
        # K P Q C R S: 16 channels of 8 x 8 from 8 channels under 5 x 5
        (Conv2d(16, (5, 5)), (8, 12, 12), 16 * 8 * 8 * 8 * 25),
        (Conv2d(2, (3, 3), stride=(2, 2), padding=(1, 1)), (1, 5, 5), 2 * 3 * 3 * 9),
        (ReLU(), (8, 12, 12), 0),
    ],
    ids=["dense", "conv2d", "conv2d-strided", "relu"],
)
def test_multiply_adds(layer, input_shape, expected):
    assert layer.multiply_adds(input_shape) == expected


def test_a_prepared_call_is_the_call() -> None:
    """However its arguments are passed on."""
    x, out = np.arange(6.0).reshape(2, 3), np.zeros(2)
    call(np.add.reduce, x, axis=1, out=out)()
    assert out.tolist() == [3, 12]
    assert call(np.add.reduce, x, 1)().tolist() == [3, 12]  # type: ignore[attr-defined]
    assert call(np.maximum.reduce, x, axis=0, keepdims=True)().tolist() == [[3, 4, 5]]  # type: ignore[attr-defined]
    assert call(np.add.reduce, x, where=x > 1)().tolist() == [3, 4, 7]  # type: ignore[attr-defined]
    assert call(np.add.accumulate, x, axis=1)()[1].tolist() == [3, 7, 12]  # type: ignore[index]
    fraction, whole = np.zeros(2), np.zeros(2)
    call(np.modf, np.array([1.5, 2.25]), out=(fraction, whole))()
    assert (fraction.tolist(), whole.tolist()) == ([0.5, 0.25], [1, 2])
    call(np.maximum, out, 5.0, out=out)()
    call(np.subtract, out, 1.0, out=out)()
    assert out.tolist() == [4, 11]
