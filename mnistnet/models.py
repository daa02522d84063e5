"""Named architectures, and a network together with what it needs to read pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, PixelScale, Shape
from mnistnet.engine.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FourierFeatures,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Sine,
    Softmax,
    Tanh,
    siren_bound,
)
from mnistnet.engine.network import Network
from mnistnet.errors import ShapeError, UsageError


@dataclass(frozen=True)
class Classifier:
    """A network, the names of its classes or values, and what a byte of a picture means to it.

    The input pipeline travels with the model: whoever runs or exports it never guesses.

    Raises:
        ShapeError: there is not one name for each output.
    """

    network: Network
    class_names: tuple[str, ...]
    pixels: PixelScale = UNIT_SCALE
    name: str = "custom"
    """The architecture's name: a key of `MODELS`, or "custom"."""
    confidence_threshold: float | None = None
    """The probability from which on a prediction is relied on; None where it was not calibrated."""

    def __post_init__(self) -> None:
        if self.network.output_shape != (len(self.class_names),):
            found = f"{len(self.class_names)} names for an output of {self.network.output_shape}"
            raise ShapeError(f"class_names: expected one for each output, found {found}")

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of a picture; (F,) of what takes numbers."""
        return self.network.input_shape

    @property
    def members(self) -> tuple[Classifier, ...]:
        """Itself: a classifier is the smallest `Ensemble`."""
        return (self,)

    def probabilities(self, images: AnyArray, *, threads: int = 1) -> FloatArray:
        """(N, K) probabilities of uint8 images (N, C, H, W), 0 = background."""
        return self.network.predict(images, pixels=self.pixels, threads=threads)


@dataclass(frozen=True)
class Ensemble:
    """Classifiers of the same pictures, whose probabilities are averaged.

    Raises:
        ShapeError: there are none, or their pictures or classes differ.
    """

    members: tuple[Classifier, ...]
    confidence_threshold: float | None = None
    """As of a `Classifier`."""

    def __post_init__(self) -> None:
        kinds = {(member.input_shape, member.class_names) for member in self.members}
        if len(kinds) != 1:
            raise ShapeError(
                f"ensemble: expected networks of the same pictures and classes, found {len(kinds)}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        return self.members[0].class_names

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of a picture."""
        return self.members[0].input_shape

    @property
    def name(self) -> str:
        """What it is made of."""
        return "-".join(["ensemble", *sorted({member.name for member in self.members})])

    def probabilities(self, images: AnyArray, *, threads: int = 1) -> FloatArray:
        """(N, K) probabilities of uint8 images (N, C, H, W), 0 = background."""
        total = self.members[0].probabilities(images, threads=threads)
        for member in self.members[1:]:
            total += member.probabilities(images, threads=threads)
        return total / total.dtype.type(len(self.members))


def lenet(classes: int) -> list[Layer]:
    """Conv 5x5 x8, pool 2, conv 5x5 x16, pool 2, dense 128, dense K: after LeCun et al. 1998."""
    return [
        *_conv(8, 5),
        MaxPool2d((2, 2)),
        *_conv(16, 5),
        MaxPool2d((2, 2)),
        Flatten(),
        Dense(128),
        ReLU(),
        Dense(classes),
        Softmax(),
    ]


def rsnet(classes: int) -> list[Layer]:
    """Conv 5x5 x5, pool 4, conv 3x3 x5, conv 2x2 x5, dense K: the network of the Rust engine rsnet."""
    return [
        *_conv(5, 5),
        MaxPool2d((4, 4)),
        *_conv(5, 3),
        *_conv(5, 2),
        Flatten(),
        Dense(classes),
        Softmax(),
    ]


def mlp(classes: int) -> list[Layer]:
    """Dense 128, dense K: the plain multi-layer perceptron."""
    return [Flatten(), Dense(128), ReLU(), Dense(classes), Softmax()]


def leaky(classes: int) -> list[Layer]:
    """Dense 128, dense K: the perceptron with LeakyReLU."""
    return [Flatten(), Dense(128), LeakyReLU(), Dense(classes), Softmax()]


def sigmoid(classes: int) -> list[Layer]:
    """Dense 10, dense K, each output a probability of its own: trained with binary cross-entropy."""
    return [Flatten(), Dense(10), ReLU(), Dense(classes), Sigmoid()]


def deep(classes: int) -> list[Layer]:
    """Conv 5x5 x32, pool 2, two conv 3x3 x64, pool 2, dense 128, dense K; batch norms, dropout at the end."""
    return [
        *_normed_conv(32, 5),
        MaxPool2d((2, 2)),
        *_normed_conv(64, 3),
        *_normed_conv(64, 3),
        MaxPool2d((2, 2)),
        *_normed_head(classes),
    ]


def deeper(classes: int) -> list[Layer]:
    """As deep, but its 3x3 convolutions are padded, and conv 3x3 x128, pool 2 follow them."""
    return [
        *_normed_conv(32, 5),
        MaxPool2d((2, 2)),
        *_normed_conv(64, 3, padding=1),
        *_normed_conv(64, 3, padding=1),
        MaxPool2d((2, 2)),
        *_normed_conv(128, 3, padding=1),
        MaxPool2d((2, 2)),
        *_normed_head(classes),
    ]


def wide(classes: int) -> list[Layer]:
    """Two conv 3x3 x32, pool 2, two conv 3x3 x64, pool 2, dense 128, dense K."""
    return [
        *_conv(32, 3),
        *_conv(32, 3),
        MaxPool2d((2, 2)),
        *_conv(64, 3),
        *_conv(64, 3),
        MaxPool2d((2, 2)),
        Flatten(),
        Dense(128),
        ReLU(),
        Dense(classes),
        Softmax(),
    ]


MODELS: dict[str, Callable[[int], list[Layer]]] = {
    "lenet": lenet,
    "rsnet": rsnet,
    "mlp": mlp,
    "leaky": leaky,
    "sigmoid": sigmoid,
    "wide": wide,
    "deep": deep,
    "deeper": deeper,
}
"""Every named architecture: a function from the number of classes to its layers."""


def build(name: str, input_shape: Shape = (1, 28, 28), classes: int = 10) -> Network:
    """A named network, not yet initialized.

    Args:
        name: a key of `MODELS`.
        input_shape: (C, H, W).
        classes: K, the number of outputs.

    Raises:
        UsageError: there is no such model.
        ShapeError: the images are too small for it.
    """
    if name not in MODELS:
        raise UsageError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    return Network(MODELS[name](classes), input_shape)


def drawing_tanh(outputs: int, detail: float) -> list[Layer]:  # noqa: ARG001
    """Dense 64, 64, 128, 64, 32, K with tanh: the network of the tensor project that mnistnet took in."""
    hidden = [layer for width in (64, 64, 128, 64, 32) for layer in (Dense(width), Tanh())]
    return [*hidden, Dense(outputs), Sigmoid()]


def drawing_fourier(outputs: int, detail: float) -> list[Layer]:
    """Fourier features, 128 waves; dense 128, 128, K with ReLU: after Tancik et al. 2020."""
    features = FourierFeatures(128, scale=detail / 25)
    return [features, Dense(128), ReLU(), Dense(128), ReLU(), Dense(outputs), Sigmoid()]


def drawing_sine(outputs: int, detail: float) -> list[Layer]:
    """Dense 128, 128, 128, K with sines: after Sitzmann et al. 2020.

    Their omega is 30 everywhere. Here the first follows the picture; 10 in the others draws smoother edges.
    """
    first, later, width = 0.4 * detail, 10.0, 128
    hidden: list[Layer] = [Dense(width, siren_bound(2, first, first=True)), Sine(first)]
    for _ in range(2):
        hidden += [Dense(width, siren_bound(width, later)), Sine(later)]
    return [*hidden, Dense(outputs, siren_bound(width, later)), Sigmoid()]


DRAWINGS: dict[str, Callable[[int, float], list[Layer]]] = {
    "sine": drawing_sine,
    "fourier": drawing_fourier,
    "tanh": drawing_tanh,
}
"""Networks that learn one picture: from the numbers of a pixel and the picture's detail to the layers."""


def build_drawing(name: str, outputs: int, detail: float) -> Network:
    """A network from a point (x, y) to a pixel's numbers, not yet initialized.

    Args:
        name: a key of `DRAWINGS`.
        outputs: K: 1, or 3 in colour.
        detail: how fine the picture is, which its first frequencies follow: the pixels of the longer side of
            a photograph; half of them, for smooth edges, of a black and white drawing.

    Raises:
        UsageError: there is no such network.
    """
    if name not in DRAWINGS:
        raise UsageError(f"model {name!r}: expected one of {', '.join(DRAWINGS)}")
    return Network(DRAWINGS[name](outputs, detail), (2,))


def _conv(channels: int, kernel: int) -> Sequence[Layer]:
    return (Conv2d(channels, (kernel, kernel)), ReLU())


def _normed_conv(channels: int, kernel: int, padding: int = 0) -> Sequence[Layer]:
    return (Conv2d(channels, (kernel, kernel), padding=(padding, padding)), BatchNorm(), ReLU())


def _normed_head(classes: int) -> Sequence[Layer]:
    return (Flatten(), Dense(128), BatchNorm(), ReLU(), Dropout(0.3), Dense(classes), Softmax())
