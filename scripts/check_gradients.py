"""Check mnistnet's gradients against PyTorch's, and state what Winograd's form costs in rounding.

Every named network, the same weights, the same 64 images of MNIST; at the start and after 100 training steps.
Ends with 1 if a float32 gradient differs from PyTorch's by more than 1e-5, relative to the largest of its
tensor. The engine works in shards, as in training. Beside it both are held against PyTorch in float64, which
tells how much of the difference is whose.

A gradient jumps where a ReLU's input crosses zero or two pixels of a pool's window change places. A large
network takes millions of such decisions a batch, and in a few of them rounding decides: there no two
float32 programs need agree, PyTorch with itself in float64 included. So the batch is made of the first 64
images without such a decision (see ``MARGIN``), and what the first 64 images give as they come is stated
beside it.

Batch normalization works shard by shard, and makes every decision depend on all images of a shard. A network
with it is therefore checked on one shard, the first one without such a decision. Dropout draws from another
source than PyTorch's, so it is set to leave nothing out.

    python scripts/check_gradients.py
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
import numpy.typing as npt
import torch
from cases import LEARNING_RATE, MOMENTUM, Case, order, training_set
from contestants import convolution_data
from convolutions import engine_results, full_im2col
from report import Table, paste
from torch.nn import functional

from mnistnet.engine.arrays import AnyArray, FloatArray, IntArray
from mnistnet.engine.division import divide
from mnistnet.engine.layers import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    GlobalAvgPool,
    LeakyReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from mnistnet.engine.losses import LOSSES, Loss, loss_for
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.models import MODELS
from mnistnet.reports.torch_twin import twin

TOLERANCE = 1e-5
MARGIN = 1e-6
"""Decisions closer than this, relative to the largest number of their layer, are rounding's."""
EXACT = 1e-13
"""Closer than this in float64 is a true tie, such as of two windows that see the same background."""
CANDIDATES = 512
BATCH = 64
STEPS = 100
CONVOLUTIONS = {
    "lenet's second, F(4, 5)": ((32, 8, 12, 12), (16, 8, 5, 5)),
    "wide's second, F(4, 3)": ((16, 32, 26, 26), (32, 32, 3, 3)),
    "wide's fourth, F(4, 3)": ((16, 64, 10, 10), (64, 64, 3, 3)),
}
LAYERS = [
    Conv2d(8, (3, 3), padding=(1, 1)),
    BatchNorm(),
    LeakyReLU(0.1),
    AvgPool2d((2, 2)),
    Conv2d(12, (3, 3)),
    BatchNorm(),
    GELU(),
    AvgPool2d((3, 3), (2, 2), (1, 1)),
    Conv2d(12, (3, 3)),
    GELU("tanh"),
    Tanh(),
    GlobalAvgPool(),
    Dense(20),
    BatchNorm(),
    Sigmoid(),
    Dense(10),
    Softmax(),
]
Gradients = dict[str, FloatArray]


@dataclass(frozen=True)
class Comparison:
    """The worst tensor of one network."""

    network: str
    steps: int
    float32: float
    where: str
    float64: float
    our_error: float
    their_error: float
    skipped: int
    """Images left out before 64 clear ones were found."""
    as_they_come: float
    """The float32 difference on the first 64 images, clear or not."""


def loss_of(network: Network) -> Loss:
    """The loss that the network's last layer calls for."""
    return LOSSES[loss_for(network.layers[-1].kind)]()


def our_gradients(network: Network, images: AnyArray, labels: IntArray) -> Gradients:
    """The gradient of the batch's mean loss, added up from shards of the size that training takes."""
    size = divide(network, len(images)).shard
    total: Gradients = {}
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        _, gradients = network.loss_and_gradients(images[part], labels[part], loss_of(network))
        share = len(labels[part]) / len(images)
        for name, gradient in gradients.items():
            total[name] = total.get(name, 0) + gradient * network.dtype.type(share)
    return total


def their_gradients(network: Network, images: AnyArray, labels: IntArray) -> Gradients:
    """PyTorch's, in the network's precision."""
    model = twin(network)
    dtype = next(model.parameters()).dtype
    # NumPy's indexing gives grey images strides that PyTorch takes for channels_last, where it rounds more
    x = torch.from_numpy(images).to(dtype).div_(255).clone(memory_format=torch.contiguous_format)
    targets = torch.from_numpy(labels)
    if network.layers[-1].kind == "sigmoid":
        wanted = functional.one_hot(targets, network.output_shape[0]).to(dtype)
        functional.binary_cross_entropy_with_logits(model(x), wanted).backward()
    else:
        functional.cross_entropy(model(x), targets).backward()
    # a bias in front of a batch normalization does nothing: its gradient is rounding alone
    idle = {f"{i - 1}.bias" for i, layer in enumerate(network.layers) if layer.kind == "batch_norm"}
    return {
        name: p.grad.numpy() if p.grad is not None else np.zeros(0)
        for name, p in model.named_parameters()
        if name not in idle
    }


def without_dropout(network: Network) -> Network:
    """The same network, whose dropouts leave nothing out."""
    layers = [replace(layer, rate=0.0) if isinstance(layer, Dropout) else layer for layer in network.layers]
    copy = Network(layers, network.input_shape, network.dtype)
    copy.vector[...] = network.vector
    return copy


def in_float64(network: Network) -> Network:
    """The same network in double precision."""
    double = Network(network.layers, network.input_shape, np.float64)
    double.vector[...] = network.vector
    return double


def worst(found: Gradients, expected: Gradients) -> tuple[float, str]:
    """The largest difference relative to the largest value of its tensor, and the tensor's name."""
    errors = {
        name: float(np.max(np.abs(found[name] - value)) / np.max(np.abs(value)))
        for name, value in expected.items()
    }
    name = max(errors, key=lambda key: errors[key])
    return errors[name], name


def clear_images(double: Network, images: AnyArray) -> IntArray:
    """The indices of the first images in which no decision is closer than rounding, as many as a batch."""
    model, size = twin(double), batch_of(double)
    if size == BATCH:
        chosen = np.flatnonzero(_clear(model, images[:CANDIDATES]))[:BATCH]
        if len(chosen) < BATCH:
            raise RuntimeError(f"only {len(chosen)} of {CANDIDATES} images are clear")
        return chosen
    for start in range(0, len(images), size):
        if _clear(model, images[start : start + size]).all():
            return np.arange(start, start + size)
    raise RuntimeError(f"no {size} of {len(images)} images are clear")


def batch_of(network: Network) -> int:
    """How many images a network is checked on: one shard where there is batch normalization."""
    normed = any(layer.kind == "batch_norm" for layer in network.layers)
    return divide(network, BATCH).shard if normed else BATCH


def _clear(model: torch.nn.Sequential, images: AnyArray) -> npt.NDArray[np.bool_]:
    """(N,), for each image whether no decision is closer than rounding."""
    x = torch.from_numpy(images).to(torch.float64).div_(255)
    clear = torch.ones(len(x), dtype=torch.bool)
    with torch.inference_mode():
        for module in model:
            if isinstance(module, torch.nn.ReLU | torch.nn.LeakyReLU):
                clear &= _all_clear(x.abs(), x)
            elif isinstance(module, torch.nn.MaxPool2d):
                size = int(np.prod(module.kernel_size))
                n, c = x.shape[:2]
                windows = functional.unfold(x, module.kernel_size, stride=module.stride).view(n, c, size, -1)
                clear &= _all_clear(windows.amax(dim=2, keepdim=True) - windows, x)
            x = module(x)
    return clear.numpy()


def _all_clear(distances: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """For each image, whether no distance lies between a true tie and what rounding may turn."""
    scale = values.abs().max()
    doubtful = (distances > EXACT * scale) & (distances < MARGIN * scale)
    return ~doubtful.flatten(1).any(dim=1)


def compare(
    name: str, network: Network, steps: int, all_images: AnyArray, all_labels: IntArray
) -> Comparison:
    """Hold one network against PyTorch, in both precisions."""
    network = without_dropout(network)
    double = in_float64(network)
    chosen = clear_images(double, all_images)
    images, labels = all_images[chosen], all_labels[chosen]
    size = batch_of(network)
    first = all_images[:size], all_labels[:size]
    ours, theirs = (make(network, images, labels) for make in (our_gradients, their_gradients))
    exact = their_gradients(double, images, labels)
    difference, where = worst(ours, theirs)
    return Comparison(
        name,
        steps,
        difference,
        where,
        worst(our_gradients(double, images, labels), exact)[0],
        worst(ours, exact)[0],
        worst(theirs, exact)[0],
        int(chosen[-1]) + 1 - size,
        worst(our_gradients(network, *first), their_gradients(network, *first))[0],
    )


def train(network: Network, steps: int, images: AnyArray, labels: IntArray) -> None:
    """Some steps of SGD with momentum, in place."""
    settings = {"loss": loss_of(network), "optimizer": SGD(MOMENTUM), "batch_size": BATCH}
    with Minibatches(network, images, labels, **settings) as minibatches:  # type: ignore[arg-type]
        minibatches.set_order(order(len(images)))
        for step in range(steps):
            minibatches.step(step + 1, step * BATCH, BATCH, LEARNING_RATE)


def compare_all() -> list[Comparison]:
    """Every named network, untrained and a little trained."""
    images, labels = training_set()
    found = []
    for name in MODELS:
        network = Case(name, BATCH).build()
        found.append(compare(name, network, 0, images, labels))
        train(network, STEPS, images, labels)
        found.append(compare(name, network, STEPS, images, labels))
    return found


def compare_layers() -> list[tuple[str, float, float]]:
    """A network of the layers that no named one has: float32's and float64's worst difference to PyTorch.

    The batch is one shard, for batch normalization works shard by shard.
    """
    images, labels = training_set()
    images, labels = images[: BATCH // 2], labels[: BATCH // 2]
    found: dict[str, list[float]] = {}
    single = Network(LAYERS, (1, 28, 28)).initialize(0)
    for network in (single, in_float64(single)):
        _, ours = network.loss_and_gradients(images, labels, loss_of(network))
        theirs = their_gradients(network, images, labels)
        found.setdefault("gradients, in training", []).append(worst(ours, theirs)[0])
        settings = {"loss": loss_of(network), "optimizer": SGD(), "batch_size": len(images)}
        with Minibatches(network, images, labels, **settings) as minibatches:  # type: ignore[arg-type]
            assert divide(network, len(images)).shard == len(images)
            model = twin(network)
            minibatches.step(1, 0, len(images), 0.0)
        x = torch.from_numpy(images).to(next(model.parameters()).dtype).div_(255)
        model(x)
        theirs = {name: buffer.numpy() for name, buffer in model.named_buffers() if "running" in name}
        found.setdefault("running statistics, after a step", []).append(
            worst(network.parameters(), theirs)[0]
        )
        with torch.inference_mode():
            expected = model.eval()(x).softmax(dim=1).numpy()
        outputs = worst({"": network.predict(images)}, {"": expected})[0]
        found.setdefault("probabilities, in inference", []).append(outputs)
    return [(what, *differences) for what, differences in found.items()]  # type: ignore[misc]


def layer_table(rows: list[tuple[str, float, float]]) -> Table:
    kinds = ", ".join(dict.fromkeys(layer.kind for layer in LAYERS))
    cells = [[what, f"{single:.1e}", f"{double:.1e}"] for what, single, double in rows]
    note = f"A network of {kinds}; batch {BATCH // 2} as one shard."
    return Table("Other layers against PyTorch", ["what", "float32: difference", "float64"], cells, [note])


def gradient_table(comparisons: list[Comparison]) -> Table:
    rows = [
        [
            c.network,
            str(c.steps),
            f"{c.float32:.1e}",
            c.where,
            f"{c.float64:.1e}",
            f"{c.our_error:.1e}",
            f"{c.their_error:.1e}",
            str(c.skipped),
            f"{c.as_they_come:.1e}",
        ]
        for c in comparisons
    ]
    columns = ["network", "after steps", "float32: difference to PyTorch", "worst tensor"]
    columns += ["float64: difference", "our float32 error", "PyTorch's float32 error"]
    columns += ["images left out", "float32, first images as they come"]
    note = (
        "Largest difference in a tensor over the largest value of that tensor, the worst tensor of the "
        f"network; batch {BATCH}, allowed {TOLERANCE:.0e} in float32. The errors hold both against PyTorch "
        "in float64. Left out are images in which a ReLU or a max-pool decides by less than "
        f"{MARGIN:.0e} of its layer's largest number: there rounding decides, and the gradient jumps. The "
        "last column keeps them. Networks with batch normalization (deep, deeper) take one shard of 16 "
        "images, the first without such a decision, and their dropout leaves nothing out."
    )
    return Table("Gradients against PyTorch", columns, rows, [note])


def rounding_table() -> Table:
    """Winograd's form and the direct one against float64."""
    rows = []
    for name, (shape, kernel) in CONVOLUTIONS.items():
        data = convolution_data(shape, kernel)
        exact = full_im2col(*(array.astype(np.float64) for array in data))
        forms = [engine_results(*data, winograd=winograd) for winograd in (True, False)]
        for what, value in exact.items():
            cells = [name, what]
            for form in forms:
                error = form[what] - value
                rms = np.sqrt(np.mean(error**2) / np.mean(value**2))
                cells += [f"{np.max(np.abs(error)) / np.max(np.abs(value)):.1e}", f"{rms:.1e}"]
            rows.append(cells)
    columns = ["convolution", "result", "Winograd: max", "RMS", "direct: max", "RMS"]
    note = (
        "Standard normal numbers, float32 against float64: the largest error over the largest value, "
        "and the root "
        "of the mean squared error over that of the values."
    )
    return Table("Rounding of Winograd's form", columns, rows, [note])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables there: between the marks gradients:begin and gradients:end if it has them",
    )
    args = parser.parse_args()
    comparisons = compare_all()
    layers = compare_layers()
    tables = [gradient_table(comparisons), layer_table(layers), rounding_table()]
    text = "\n".join(table.markdown() for table in tables)
    print(text)
    if args.markdown:
        paste(args.markdown, "gradients", text)
    wrong = [c for c in comparisons if not c.float32 <= TOLERANCE]
    for c in wrong:
        print(f"{c.network} after {c.steps} steps: {c.where} differs by {c.float32:.1e}", file=sys.stderr)
    off = [what for what, single, _ in layers if not single <= TOLERANCE]
    for what in off:
        print(f"other layers: {what} differ", file=sys.stderr)
    return 1 if wrong or off else 0


if __name__ == "__main__":
    sys.exit(main())
