"""The registry of layer kinds, and every complaint about a layer's configuration or its input."""

import re
from dataclasses import dataclass

import pytest

from mnistnet.engine.layers import (
    GELU,
    LAYER_KINDS,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FourierFeatures,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Softmax,
    layer_from_config,
)
from mnistnet.engine.layers.base import SimpleLayer
from mnistnet.engine.network import Network
from mnistnet.errors import ShapeError


def test_the_kinds_are_the_names_in_files():
    assert set(LAYER_KINDS) >= {"dense", "conv2d", "max_pool2d", "flatten", "relu", "softmax"}


def test_naming_a_subclass_registers_it():
    @dataclass
    class Passing(SimpleLayer, kind="passing"):
        def output_shape(self, input_shape):
            return input_shape

        def bind(self, x, site):
            raise NotImplementedError

    try:
        assert layer_from_config("passing", {}) == Passing()
    finally:
        del LAYER_KINDS["passing"]


@pytest.mark.parametrize(
    ("kind", "config", "layer"),
    [
        ("dense", {"out_features": 3}, Dense(3)),
        ("conv2d", {"out_channels": 3, "kernel_size": 2}, Conv2d(3, (2, 2), (1, 1), (0, 0))),
        (
            "conv2d",
            {"out_channels": 3, "kernel_size": [2, 5], "stride": 2, "padding": [0, 1]},
            Conv2d(3, (2, 5), (2, 2), (0, 1)),
        ),
        # PyTorch's
        ("batch_norm", {}, BatchNorm(1e-5, 0.1)),
        ("leaky_relu", {}, LeakyReLU(0.01)),
        ("dropout", {}, Dropout(0.5)),
        ("gelu", {}, GELU("none")),
        ("max_pool2d", {"kernel_size": [2, 3]}, MaxPool2d((2, 3), (2, 3), (0, 0))),
        ("max_pool2d", {"kernel_size": 2, "stride": None}, MaxPool2d((2, 2), (2, 2))),
        ("max_pool2d", {"kernel_size": 4, "stride": 1, "padding": 2}, MaxPool2d((4, 4), (1, 1), (2, 2))),
    ],
)
def test_defaults_and_one_number_for_both(kind, config, layer):
    assert layer_from_config(kind, config) == layer


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("conv3d", {}, "unknown kind 'conv3d': expected one of "),
        (None, {}, "unknown kind None: expected one of "),
        (["dense"], {}, "unknown kind ['dense']: expected one of "),
        (
            "conv2d",
            {"out_channels": 1, "kernel": 3},
            "unknown field 'kernel' in conv2d: expected out_channels, kernel_size, stride, padding",
        ),
        ("relu", {"slope": 0.1}, "unknown field 'slope' in relu: expected none"),
        (
            "dense",
            {"out_features": 3, "params": {}},
            "unknown field 'params' in dense: expected out_features",
        ),
        ("dense", {}, "missing field out_features in dense"),
        ("conv2d", {"out_channels": 1}, "missing field kernel_size in conv2d"),
        ("conv2d", {"kernel_size": 3, "padding": 1}, "missing field out_channels in conv2d"),
        ("max_pool2d", {"stride": 2}, "missing field kernel_size in max_pool2d"),
        ("dense", {"out_features": 0}, "out_features must be a whole number >= 1, found 0"),
        ("dense", {"out_features": True}, "out_features must be a whole number >= 1, found True"),
        ("dense", {"out_features": 2.0}, "out_features must be a whole number >= 1, found 2.0"),
        ("dense", {"out_features": "10"}, "out_features must be a whole number >= 1, found '10'"),
        ("dense", {"out_features": 2**31}, "out_features must be a whole number >= 1, found 2147483648"),
        (
            "conv2d",
            {"out_channels": -1, "kernel_size": 3},
            "out_channels must be a whole number >= 1, found -1",
        ),
        (
            "conv2d",
            {"out_channels": 1, "kernel_size": [3]},
            "kernel_size must be one number or a pair, found 1 numbers",
        ),
        (
            "conv2d",
            {"out_channels": 1, "kernel_size": [3, 3, 3]},
            "kernel_size must be one number or a pair, found 3 numbers",
        ),
        (
            "conv2d",
            {"out_channels": 1, "kernel_size": [3, None]},
            "kernel_size must be a whole number >= 1, found None",
        ),
        (
            "conv2d",
            {"out_channels": 1, "kernel_size": 3, "stride": [1, 0]},
            "stride must be a whole number >= 1, found 0",
        ),
        (
            "conv2d",
            {"out_channels": 1, "kernel_size": 3, "padding": -1},
            "padding must be a whole number >= 0, found -1",
        ),
        (
            "dense",
            {"out_features": 3, "init_bound": -0.1},
            "init_bound must be a number in 0 .. 1e+06, found -0.1",
        ),
        ("leaky_relu", {"slope": "0.1"}, "slope must be a number in 0 .. 1, found '0.1'"),
        ("leaky_relu", {"slope": True}, "slope must be a number in 0 .. 1, found True"),
        ("leaky_relu", {"slope": 1.5}, "slope must be a number in 0 .. 1, found 1.5"),
        ("batch_norm", {"epsilon": 0.0}, "epsilon must be a number in 1e-12 .. 1, found 0.0"),
        ("batch_norm", {"momentum": 1.5}, "momentum must be a number in 0 .. 1, found 1.5"),
        ("gelu", {"approximate": "erf"}, "approximate must be one of none, tanh, found 'erf'"),
        ("max_pool2d", {"kernel_size": 0}, "kernel_size must be a whole number >= 1, found 0"),
        ("max_pool2d", {"kernel_size": 2, "stride": 0}, "stride must be a whole number >= 1, found 0"),
        (
            "max_pool2d",
            {"kernel_size": [4, 3], "padding": [2, 2]},
            "padding must be at most half the kernel of 3, found 2",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration(kind, config, message):
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}") as caught:
        layer_from_config(kind, config)
    assert "\n" not in str(caught.value)


def test_a_bound_is_said_where_there_is_one():
    """Files of dense layers without one stay as they were."""
    assert Dense(3).config() == {"out_features": 3}
    assert Dense(3, init_bound=0.5).config() == {"out_features": 3, "init_bound": 0.5}


def test_the_unknown_kind_lists_all_kinds_in_order():
    with pytest.raises(ShapeError, match=", ".join(sorted(LAYER_KINDS))):
        layer_from_config("", {})


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        ([], (1, 8, 8), "empty network: expected at least one layer"),
        (
            [Dense(3)],
            (1, 8, 8),
            "layer 0 (dense): expected features, found (1, 8, 8): put a flatten layer in front",
        ),
        (
            [FourierFeatures(3)],
            (1, 8, 8),
            "layer 0 (fourier_features): expected features, found (1, 8, 8): put a flatten layer in front",
        ),
        (
            [Conv2d(2, (3, 3)), ReLU(), Softmax()],
            (1, 8, 8),
            "layer 2 (softmax): expected features, found (2, 6, 6): put a flatten layer in front",
        ),
        (
            [Flatten(), Conv2d(2, (3, 3))],
            (1, 8, 8),
            "layer 1 (conv2d): expected (C, H, W) images, found 1 dimension(s)",
        ),
        (
            [Flatten(), MaxPool2d((2, 2))],
            (1, 8, 8),
            "layer 1 (max_pool2d): expected (C, H, W) images, found 1 dimension(s)",
        ),
        (
            [Conv2d(2, (5, 5)), MaxPool2d((2, 2)), Conv2d(2, (3, 3))],
            (1, 8, 8),
            "layer 2 (conv2d): a kernel of 3 does not fit into 2 + 2 x 0 pixels",
        ),
        (
            [Conv2d(2, (11, 1), padding=(1, 0))],
            (1, 8, 8),
            "layer 0 (conv2d): a kernel of 11 does not fit into 8 + 2 x 1 pixels",
        ),
        (
            [MaxPool2d((1, 9))],
            (1, 8, 8),
            "layer 0 (max_pool2d): a kernel of 9 does not fit into 8 + 2 x 0 pixels",
        ),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, input_shape, message):
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Network(layers, input_shape)
