"""Plans: the order of operations, loading, and plans that share a workspace."""

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import Negate, Offset, WeightedSum, pool_never_moves, run_layers
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet import models
from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.blas import one_thread
from mnistnet.engine.layers import (
    GELU,
    LAYER_KINDS,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan


def order(layers, input_shape=(1, 9, 9), **options) -> list[tuple[int, str]]:
    """The operations of a plan: the index of the layer, and what is done."""
    plan = Plan(Network(layers, input_shape).blueprint(), 1, **options)
    return [(index, type(operation).__name__) for index, operation in plan._operations()]


def test_a_pool_goes_in_front_of_bias_and_relu():
    assert order([Conv2d(2, (2, 2)), ReLU(), MaxPool2d((2, 2))]) == [
        (0, "Correlate"),
        (2, "MaxPool2d"),
        (0, "AddBias"),
        (1, "ReLU"),
    ]


def test_a_pool_written_before_the_relu_is_run_in_the_same_order():
    names = [name for _, name in order([Conv2d(2, (2, 2)), MaxPool2d((2, 2)), ReLU()])]
    assert names == ["Correlate", "MaxPool2d", "AddBias", "ReLU"]


def test_two_pools_keep_their_order():
    assert order([Conv2d(2, (2, 2)), MaxPool2d((2, 2)), ReLU(), MaxPool2d((1, 2))]) == [
        (0, "Correlate"),
        (1, "MaxPool2d"),
        (3, "MaxPool2d"),
        (0, "AddBias"),
        (2, "ReLU"),
    ]


def test_a_pool_passes_no_correlation_and_no_flatten():
    layers = [ReLU(), Conv2d(2, (2, 2)), ReLU(), MaxPool2d((2, 2)), Flatten(), Dense(3), ReLU()]
    names = [name for _, name in order(layers)]
    assert names == [
        "ReLU",
        "Correlate",
        "MaxPool2d",
        "AddBias",
        "ReLU",
        "Flatten",
        "MatMul",
        "AddBias",
        "ReLU",
    ]


def test_a_pool_never_passes_what_does_not_commute():
    """The largest of -x is not minus the largest x."""
    assert order([Conv2d(2, (2, 2)), Negate(), ReLU(), MaxPool2d((2, 2))]) == [
        (0, "Correlate"),
        (0, "AddBias"),
        (1, "Negate"),
        (3, "MaxPool2d"),
        (2, "ReLU"),
    ]
    assert "negate" not in LAYER_KINDS
    x = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    found = run_layers([Negate(), MaxPool2d((2, 2))], x, np.full((1, 1, 1, 1), 5.0))
    assert_array_equal(found.y, [[[[-1]]]])
    assert_array_equal(found.dx, [[[[-5, 0], [0, 0]]]])


def test_only_bias_and_relus_commute_with_a_maximum():
    """Softmax, Flatten and all that is registered later have to say so themselves."""
    configs = {"dense": [1], "fourier_features": [1]}
    configs |= {"conv2d": [1, (1, 1)], "max_pool2d": [(1, 1)], "avg_pool2d": [(1, 1)]}
    examples = [cls(*configs.get(kind, [])) for kind, cls in LAYER_KINDS.items()]
    operations = [operation for layer in examples for operation in layer.operations()]
    assert {type(op).__name__ for op in operations if op.commutes_with_max} == {
        "AddBias",
        "ReLU",
        "LeakyReLU",
    }
    assert {type(op).__name__ for op in operations if op.takes_max} == {"MaxPool2d"}


def test_the_loss_takes_the_place_of_the_softmax():
    layers = [Dense(3), Softmax()]
    assert [name for _, name in order(layers, (4,))] == ["MatMul", "AddBias", "Softmax"]
    gradients = [{"weight": np.zeros((3, 4), np.float32), "bias": np.zeros(3, np.float32)}, {}]
    fused = order(layers, (4,), loss=SoftmaxCrossEntropy(), gradients=gradients)
    assert [name for _, name in fused] == ["MatMul", "AddBias"]


POOLS = [
    MaxPool2d((2, 2)),
    MaxPool2d((4, 4)),
    MaxPool2d((3, 2), stride=(1, 1)),
    MaxPool2d((3, 3), stride=(2, 2), padding=(1, 1)),
    MaxPool2d((1, 2), stride=(2, 3)),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.01), LeakyReLU(1.0)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reordering_changes_no_bit_of_the_output(pool, activation, dtype, monkeypatch):
    """conv, ReLU, pool: as it is written and as it is run."""
    network = Network([Conv2d(5, (3, 3)), activation, pool], (2, 10, 11), dtype).initialize(3)
    network.parameters()["0.bias"][...] = [-0.5, 0.0, 0.3, 1e-3, 7.0]
    images = np.random.default_rng(0).standard_normal((35, 2, 10, 11)).astype(dtype)
    moved = network.predict(images)
    pool_never_moves(monkeypatch)
    written = Network(network.layers, network.input_shape, dtype)
    written.vector[...] = network.vector
    assert [name for _, name in order(written.layers, (2, 10, 11))][-1] == "MaxPool2d"
    assert_array_equal(moved, written.predict(images), strict=True)
    assert (moved > 0).any()


@pytest.mark.parametrize("name", ["lenet", "rsnet", "wide"])
def test_named_networks_give_the_same_bits_in_either_order(name, monkeypatch):
    network = models.build(name).initialize(1)
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 28, 28), np.uint8)
    moved = network.predict(images)
    pool_never_moves(monkeypatch)
    network.place(network.vector)  # forgets the bound plans
    assert_array_equal(network.predict(images), moved, strict=True)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_reordering_changes_no_gradient_where_rounding_makes_no_tie(pool, monkeypatch):
    x = np.random.default_rng(0).standard_normal((4, 2, 10, 11))
    layers = [Conv2d(5, (3, 3)), ReLU(), pool]
    rng = np.random.default_rng(1)
    parameters = {"0.weight": rng.standard_normal((5, 2, 3, 3)), "0.bias": rng.standard_normal(5)}
    shape = Network(layers, (2, 10, 11)).output_shape
    dy = rng.standard_normal((4, *shape))
    moved = run_layers(layers, x, dy, parameters)
    pool_never_moves(monkeypatch)
    written = run_layers(layers, x, dy, parameters)
    assert_array_equal(moved.y, written.y, strict=True)
    assert_allclose(moved.dx, written.dx, rtol=1e-12, atol=1e-12)
    for name, gradient in written.parameters.items():
        assert_allclose(moved.parameters[name], gradient, rtol=1e-12, atol=1e-12, err_msg=name)


# what a loss sees of a chain, whatever stands at its end and whatever it overwrites

ENDS = {
    "dense": [Dense(4)],
    "relu": [Dense(4), ReLU()],
    "relu, softmax": [Dense(4), ReLU(), Softmax()],
    "two relus": [Dense(4), ReLU(), ReLU()],
    "softmax, dense": [Softmax(), Dense(4)],
    "two softmaxes": [Dense(4), Softmax(), Softmax()],
    "flatten": [Dense(4), Flatten()],
}


@pytest.mark.parametrize("layers", ENDS.values(), ids=ENDS.keys())
def test_cross_entropy_behind_any_last_layer(layers):
    """The loss works in place, which must not take from a layer the output that its backward pass reads."""
    x = np.random.default_rng(0).standard_normal((6, 5))
    labels = np.array([0, 1, 2, 3, 0, 1])
    network = Network([Offset(6), *layers], (5,), np.float64).initialize(2)
    network.parameters()["0.offset"][...] = x
    loss, gradients = network.loss_and_gradients(np.zeros((6, 5)), labels, SoftmaxCrossEntropy())
    expected, expected_gradients = naive_chain(network, labels)
    assert loss == pytest.approx(expected, rel=1e-12)
    for name, gradient in expected_gradients.items():
        assert_allclose(gradients[name], gradient, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "layers",
    [
        [Conv2d(4, (2, 2)), MaxPool2d((4, 4)), Flatten()],
        [Conv2d(4, (2, 2)), ReLU(), MaxPool2d((4, 4)), Flatten(), Softmax()],
        [Conv2d(4, (5, 5)), ReLU(), Flatten(), Softmax()],
        [MaxPool2d((5, 5)), Flatten(), Softmax()],
        [Flatten(), ReLU(), Dense(4), Softmax()],
        [Flatten(), Flatten(), ReLU(), ReLU(), Dense(4), Softmax()],
        [ReLU(), Conv2d(4, (3, 3), (2, 2)), MaxPool2d((2, 2)), ReLU(), Flatten(), Dense(4), Softmax()],
        [MaxPool2d((2, 2), (1, 1)), ReLU(), Conv2d(4, (3, 3)), Flatten(), Dense(4), Softmax()],
        [Conv2d(4, (3, 3), padding=(1, 1)), Conv2d(2, (2, 2)), ReLU(), Flatten(), Dense(4)],
    ],
    ids=lambda layers: "-".join(layer.kind for layer in layers),
)
@pytest.mark.parametrize("offset", [True, False], ids=["with input gradient", "as first layers"])
def test_chains_are_the_naive_chain(layers, offset):
    """Any order of layers, as the first of a network and above another."""
    n, shape = 6, (4, 5, 5)
    x = np.random.default_rng(0).standard_normal((n, *shape))
    labels = np.arange(n) % 4
    if offset:
        network = Network([Offset(n), *layers], shape, np.float64).initialize(2)
        network.parameters()["0.offset"][...] = x
        images = np.zeros_like(x)
    else:
        network = Network(layers, shape, np.float64).initialize(2)
        images = x
    loss, gradients = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    expected, expected_gradients = naive_chain(network, labels, images)
    assert loss == pytest.approx(expected, rel=1e-12)
    for name, gradient in expected_gradients.items():
        assert_allclose(gradients[name], gradient, rtol=1e-11, atol=1e-12, err_msg=name)
    assert_allclose(network.predict(images), naive_forward(network, images)[-1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", list(models.MODELS))
def test_named_networks_are_the_naive_chain(name):
    """Loss and every gradient of each network on one batch, ties and all; dropout has tests of its own."""
    layers = [layer for layer in models.MODELS[name](10) if layer.kind != "dropout"]
    network = Network(layers, (1, 28, 28), np.float64).initialize(4)
    rng = np.random.default_rng(0)
    for key, view in network.parameters().items():
        if key.endswith("bias"):  # with zero biases empty corners meet the ReLU's kink, and rounding decides
            view[...] = rng.uniform(0.05, 0.2, view.shape)
    images = rng.integers(0, 256, (9, 1, 28, 28)) * (rng.random((9, 1, 28, 28)) < 0.3) / 255
    images[:, :, :8] = 0  # the margins of a digit: every window a tie
    labels = rng.integers(0, 10, 9)
    loss, gradients = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    expected, expected_gradients = naive_chain(network, labels, images)
    assert loss == pytest.approx(expected, rel=1e-12)
    for key, gradient in expected_gradients.items():
        assert_allclose(gradients[key], gradient, rtol=1e-9, atol=1e-11, err_msg=key)
    assert set(expected_gradients) == set(gradients)


def naive_forward(network, images):
    """What goes into each layer in training, and what comes out of the last."""
    values = [images]
    for layer in network.layers:
        x = values[-1]
        match layer.kind:
            case "offset":
                values.append(x + layer.params["offset"])
            case "dense":
                values.append(naive.dense(x, layer.params["weight"], layer.params["bias"]))
            case "conv2d":
                weight, bias = layer.params["weight"], layer.params["bias"]
                values.append(naive.conv2d(x, weight, bias, layer.stride, layer.padding))
            case "max_pool2d":
                values.append(naive.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding))
            case "flatten":
                values.append(x.reshape(len(x), -1))
            case "relu":
                values.append(np.where(x > 0, x, 0.0))
            case "avg_pool2d":
                values.append(naive.avg_pool2d(x, layer.kernel_size, layer.strides, layer.padding))
            case "global_avg_pool":
                values.append(x.mean(axis=(2, 3)))
            case "tanh":
                values.append(np.tanh(x))
            case "gelu":
                values.append(naive.gelu(x))
            case "leaky_relu":
                values.append(np.where(x > 0, x, layer.slope * x))
            case "sigmoid":
                values.append(naive.sigmoid(x))
            case "batch_norm":
                weight, bias = layer.params["weight"], layer.params["bias"]
                values.append(naive.batch_norm(x, weight, bias, layer.epsilon))
            case "softmax":
                values.append(naive.softmax(x))
    return values


def naive_chain(network, labels, images=None):
    """Loss and gradients by name; a softmax at the end belongs to the loss."""
    images = np.zeros((len(labels), *network.input_shape)) if images is None else images
    values = naive_forward(network, images)[:-1]
    layers = list(enumerate(network.layers))
    if layers[-1][1].kind == "softmax":
        layers.pop()
        logits = values[-1]
    else:
        logits = naive_forward(network, images)[-1]
        values.append(logits)
    loss, dy = naive.cross_entropy(logits, labels)
    gradients = {}
    for index, layer in reversed(layers):
        x, y = values[index], values[index + 1]
        match layer.kind:
            case "offset":
                gradients[f"{index}.offset"] = dy
            case "dense":
                dy, gradients[f"{index}.weight"], gradients[f"{index}.bias"] = naive.dense_backward(
                    x, layer.params["weight"], dy
                )
            case "conv2d":
                dy, gradients[f"{index}.weight"], gradients[f"{index}.bias"] = naive.conv2d_backward(
                    x, layer.params["weight"], dy, layer.stride, layer.padding
                )
            case "max_pool2d":
                dy = naive.max_pool2d_backward(x, dy, layer.kernel_size, layer.stride, layer.padding)
            case "flatten":
                dy = dy.reshape(x.shape)
            case "relu":
                dy = dy * (x > 0)
            case "avg_pool2d":
                dy = naive.avg_pool2d_backward(x, dy, layer.kernel_size, layer.strides, layer.padding)
            case "global_avg_pool":
                dy = np.broadcast_to(dy[:, :, None, None] / (x.shape[2] * x.shape[3]), x.shape)
            case "tanh":
                dy = dy * (1.0 - y**2)
            case "gelu":
                dy = naive.gelu_backward(x, dy)
            case "leaky_relu":
                dy = dy * np.where(x > 0, 1.0, layer.slope)
            case "sigmoid":
                dy = naive.sigmoid_backward(y, dy)
            case "batch_norm":
                dy, gradients[f"{index}.weight"], gradients[f"{index}.bias"] = naive.batch_norm_backward(
                    x, layer.params["weight"], dy, layer.epsilon
                )
            case "softmax":
                dy = naive.softmax_backward(y, dy)
    return loss, gradients


@given(st.data())
def test_drawn_chains_are_the_naive_chain(data):
    """Any order in which the layers fit: what one overwrites, its neighbours must not need."""
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(3, 8)), data.draw(st.integers(3, 8)))
    layers, at = [], shape
    for _ in range(data.draw(st.integers(1, 6))):
        choices = [ReLU(), Flatten(), LeakyReLU(0.25), Sigmoid(), Tanh(), GELU(), BatchNorm(epsilon=0.5)]
        if len(at) == 3:
            size = min(at[1], 3), min(at[2], 2)
            choices += [
                Conv2d(3, size),
                Conv2d(2, (1, size[1]), stride=(2, 1), padding=(1, 0)),
                MaxPool2d(size),
                MaxPool2d(size, stride=(1, 1)),
                MaxPool2d((1, 1), stride=(2, 2)),
                AvgPool2d((2, size[1]), padding=(1, 0)),
                AvgPool2d((1, size[1]), stride=(2, 1)),
                GlobalAvgPool(),
            ]
        else:
            choices += [Dense(4), Softmax()]
        layers.append(data.draw(st.sampled_from(choices)))
        at = layers[-1].output_shape(at)
    layers += [Flatten(), Dense(4)][len(at) == 1 :]
    layers += data.draw(st.sampled_from([[], [ReLU()], [Softmax()], [ReLU(), Softmax()]]))
    n = data.draw(st.integers(1, 9))
    bottom = data.draw(st.sampled_from([[], [Offset(n)]]))
    network = Network([*bottom, *layers], shape, np.float64).initialize(5)
    rng = np.random.default_rng(6)
    for view in network.parameters().values():
        view[...] += 0.1 * rng.standard_normal(view.shape)
    images = rng.standard_normal((n, *shape))
    labels = rng.integers(0, 4, n)
    loss, gradients = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    expected, expected_gradients = naive_chain(network, labels, images)
    assert loss == pytest.approx(expected, rel=1e-11)
    for name, gradient in expected_gradients.items():
        assert_allclose(gradients[name], gradient, rtol=1e-9, atol=1e-11, err_msg=f"{name} of {layers}")


# loading


@pytest.mark.parametrize("pixels", [PixelScale(), PixelScale(2 / 255, -1.0), PixelScale(0.01, 0.25)], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 4, 2), (7,)], ids=str)
@pytest.mark.parametrize("first", [[Flatten()], [ReLU()], [Offset(5)]], ids=["rows", "batch last", "offset"])
def test_bytes_are_loaded_as_the_pixel_scale_says(pixels, shape, first):
    """byte * scale + shift in float32, whatever layout the first layer wants."""
    network = Network([*first, Flatten()], shape)
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    expected = images.astype(np.float32) * np.float32(pixels.scale) + np.float32(pixels.shift)
    if first[0].kind == "relu":
        expected = np.maximum(expected, np.float32(0))
    assert_array_equal(network.predict(images, pixels=pixels), expected.reshape(5, -1), strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_load_takes_rows_by_slice_or_by_index(dtype):
    network = Network([Offset(3)], (2, 2, 2))
    rows = (np.arange(80).reshape(10, 8)).astype(dtype)
    plan = Plan(network.blueprint(PixelScale(1.0)), 3)
    plan.prepare()
    for index in (slice(4, 7), np.array([9, 0, 5]), np.array([2, 2, 2])):
        plan.load(rows, index)
        plan.run()
        assert_array_equal(plan.outputs.reshape(3, 8), rows[index])


def test_prepare_makes_changed_parameters_count():
    network = Network([Conv2d(1, (1, 1))], (1, 1, 1), np.float64)
    plan = Plan(network.blueprint(), 1)
    for weight in (2.0, 5.0):
        network.parameters()["0.weight"][...] = weight
        plan.prepare()
        plan.load(np.array([[3.0]]), slice(None))
        plan.run()
        assert plan.outputs.item() == 3 * weight


@pytest.mark.parametrize("name", list(models.MODELS))
def test_plans_of_a_named_network_share_a_workspace(name):
    """Running in turn in one workspace gives the bits of running in private."""
    network = models.build(name).initialize(0)
    rows = np.random.default_rng(0).integers(0, 256, (64, 784), np.uint8)
    labels = np.arange(64) % 10

    def bound(workspace=None):
        vector = np.zeros_like(network.vector)
        gradients = network.views(vector)
        plan = Plan(
            network.blueprint(), 32, loss=SoftmaxCrossEntropy(), gradients=gradients, workspace=workspace
        )
        return plan, vector

    def bits(plan, vector, index):
        with one_thread():
            plan.prepare()
            plan.load(rows, index)
            plan.loss.load_targets(labels, index)
            plan.run()
        return plan.loss.loss.tobytes(), plan.loss.hits.tobytes(), vector.tobytes()

    private, host = bound(), bound()
    guest = bound(host[0].workspace)
    halves = slice(0, 32), slice(32, 64)
    expected = [bits(*private, half) for half in halves]
    assert expected[0] != expected[1]
    for _ in range(2):
        for half, found in zip(halves, expected, strict=True):
            assert bits(*host, half) == found
            assert bits(*guest, half) == found


def test_a_plan_without_a_loss_only_predicts():
    plan = Plan(Network([Dense(2)], (3,)).blueprint(), 4)
    with pytest.raises(AssertionError):
        _ = plan.loss
    assert Plan(
        Network([Dense(2)], (3,)).blueprint(),
        4,
        loss=WeightedSum(np.ones((4, 2))),
        gradients=[{"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)}],
    ).loss.hits.shape == (4,)
