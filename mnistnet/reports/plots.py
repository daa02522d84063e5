"""Pictures of what a model does, drawn by matplotlib without a display and without its global state.

Every function gives a `Figure` of its own. Colours are told apart by everybody: Okabe and Ito's blue and
vermilion with different markers, and maps whose lightness only rises.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnistnet.data.dataset import Dataset
from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.network import Network
from mnistnet.formats.foreign import Predictor
from mnistnet.models import Classifier
from mnistnet.reports.curves import CurvePoint
from mnistnet.reports.evaluation import CONFIDENCE_LEVEL, Evaluation, share_interval

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#8A8F98"
SEQUENTIAL, DIVERGING, INK = "cividis", "PuOr", "gray_r"
RESOLUTION = 144  # dots per inch

MOST_FILTERS = 64
MOST_MAPS = 16
"""Of one layer; more would be too small to see."""
MISTAKES = 20
MOST_NUMBERS = 20
"""Classes up to which a confusion matrix has room for its counts."""


def all_plots(
    model: Predictor, evaluation: Evaluation, dataset: Dataset, curve: Sequence[CurvePoint]
) -> dict[str, Figure]:
    """Every figure that there is something to draw for, by a name that can name its file.

    Args:
        model: only a `Classifier` has filters and feature maps to show.
        evaluation: of ``model`` on ``dataset``.
        dataset: with at least one image.
        curve: its epochs; none where they are not known.
    """
    figures = {
        "learning-curves": learning_curves(curve) if curve else None,
        "confusion-matrix": confusion_matrix(evaluation),
        "reliability": reliability_diagram(evaluation),
        "worst-mistakes": worst_mistakes(evaluation, dataset.images),
    }
    if isinstance(model, Classifier):
        figures["first-filters"] = first_filters(model.network)
        figures["feature-maps"] = feature_maps(model, dataset.images[0])
    return {name: figure for name, figure in figures.items() if figure is not None}


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=RESOLUTION, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def learning_curves(curve: Sequence[CurvePoint]) -> Figure:
    """Loss and accuracy by epoch, in training and, where it was measured, on the validation split."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = [point.epoch for point in curve]
    for axes, training, validation in (
        (above, [p.loss for p in curve], [p.validation_loss for p in curve]),
        (below, [p.training_accuracy for p in curve], [p.validation_accuracy for p in curve]),
    ):
        axes.plot(epochs, training, "o-", color=BLUE, label="training, while it learned")
        if any(value is not None for value in validation):
            axes.plot(
                epochs,
                [np.nan if v is None else v for v in validation],
                "s--",
                color=VERMILION,
                label="validation, after the epoch",
            )
        _plain(axes)
        axes.grid(axis="y", alpha=0.3)
    above.set_ylabel("loss")
    above.set_ylim(bottom=0)
    above.legend(frameon=False)
    below.set_ylabel("accuracy")
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle("Learning curves")
    return figure


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Counts by label and prediction; the colour is for the mistakes, which the diagonal would outshine."""
    counts, names = evaluation.confusion, evaluation.class_names
    k = len(names)
    side = min(max(0.62 * k, 5.0), 12.0)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    mistakes = np.ma.masked_array(counts, np.eye(k, dtype=bool))
    most = int(mistakes.filled(0).max())  # where there is one class, all is masked
    image = axes.imshow(mistakes, cmap="Blues", vmin=0, vmax=max(most, 1))
    axes.set_facecolor("#ECEDEF")
    upright = all(len(name) <= 2 for name in names)
    axes.set_xticks(range(k), names, rotation=0 if upright else 90, parse_math=False)
    axes.set_yticks(range(k), names, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("what it was taken for")
    axes.set_ylabel("what it is")
    axes.set_title("Confusion matrix")
    if k <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            dark = row != column and count > 0.55 * most
            colour = "white" if dark else "#B0B4BB" if count == 0 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="mistakes")
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def reliability_diagram(evaluation: Evaluation) -> Figure:
    """Accuracy against confidence by bin, and how many images each bin holds."""
    figure = Figure(figsize=(6.5, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    some = [bin_ for bin_ in evaluation.calibration if bin_.images]
    accuracies = np.array([bin_.accuracy for bin_ in some])
    ends = np.array([share_interval(bin_.accuracy, bin_.images) for bin_ in some]).T
    above.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    above.errorbar(
        [bin_.confidence for bin_ in some],
        accuracies,
        np.abs(ends - accuracies),
        fmt="o",
        color=BLUE,
        capsize=3,
        clip_on=False,
        label=f"found, with {100 * CONFIDENCE_LEVEL:.0f} % intervals",
    )
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.legend(frameon=False, loc="lower right")
    above.set_title(f"Reliability: expected calibration error {100 * evaluation.calibration_error:.2f} %")
    width = some[0].high - some[0].low
    below.bar([b.low + width / 2 for b in some], [b.images for b in some], 0.92 * width, color=GREY)
    below.set_yscale("log")
    below.set_ylim(bottom=0.7)
    below.set_ylabel("images")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1)
    for axes in (above, below):
        _plain(axes)
    above.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.xaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def worst_mistakes(evaluation: Evaluation, images: npt.NDArray[np.uint8]) -> Figure:
    """The wrong answers that left their label the least probability, with what was read instead.

    Args:
        evaluation: of ``images``.
        images: uint8 (N, C, H, W).
    """
    mistakes = evaluation.worst_mistakes(MISTAKES)
    columns = 5
    rows = max(ceil(len(mistakes) / columns), 1)
    figure = Figure(figsize=(9, 2.05 * rows + 0.6), layout="constrained")
    for axes, mistake in zip(_tiles(figure, rows, columns), mistakes, strict=False):
        axes.imshow(_picture(images[mistake.index]), cmap=INK, vmin=0, vmax=255)
        said = f"{mistake.label} read as {mistake.prediction}"
        title = f"{said}, {100 * mistake.confidence:.1f} %\nimage {mistake.index}"
        axes.set_title(title, fontsize=8.5, parse_math=False)
    figure.suptitle("Worst mistakes" if mistakes else "No mistakes")
    return figure


def first_filters(network: Network) -> Figure | None:
    """The weights that see the picture itself, in the picture's form; None where no layer has such."""
    found = _first_weights(network)
    if found is None:
        return None
    weights, title = found
    shown = weights[:MOST_FILTERS].mean(axis=1)
    columns = min(len(shown), 16 if len(shown) > 16 else 8)
    rows = ceil(len(shown) / columns)
    figure = Figure(figsize=(9, 8.4 / columns * rows + 0.6), layout="constrained")
    # a few weights far larger than all others would leave those without colour
    largest = float(np.percentile(np.abs(shown), 99)) or 1.0
    for axes, filter_ in zip(_tiles(figure, rows, columns), shown, strict=False):
        image = axes.imshow(filter_, cmap=DIVERGING, vmin=-largest, vmax=largest)
    figure.colorbar(image, ax=figure.axes, shrink=0.9, label="weight", aspect=30, extend="both")
    more = f", the first {MOST_FILTERS} of {len(weights)}" if len(weights) > MOST_FILTERS else ""
    figure.suptitle(f"{title}{more}")
    return figure


def feature_maps(classifier: Classifier, image: npt.NDArray[np.uint8]) -> Figure | None:
    """What each layer makes of one image, as far as it is still a picture; None where none is.

    Args:
        classifier: of which network.
        image: uint8 (C, H, W).
    """
    layers = list(_image_layers(classifier.network))
    if not layers:
        return None
    columns = max(min(max(shape[0] for _, _, shape in layers), MOST_MAPS), 2)
    figure = Figure(
        figsize=(10, 10 / columns * (len(layers) + 1) + 0.34 * len(layers) + 0.8), layout="constrained"
    )
    bands = figure.subfigures(len(layers) + 1, 1, squeeze=False)[:, 0]
    first = next(_tiles(bands[0], 1, columns))
    first.imshow(_picture(image), cmap=INK, vmin=0, vmax=255)
    heading: dict[str, Any] = {"fontsize": 10, "x": 0.004, "ha": "left"}
    bands[0].suptitle("The picture", **heading)
    for band, (count, names, shape) in zip(bands[1:], layers, strict=True):
        maps = _output_of(classifier, count, image)[:columns]
        more = f", {columns} of them" if shape[0] > columns else ""
        band.suptitle(f"{names}: {shape[0]} maps of {shape[1]}x{shape[2]}{more}", **heading)
        low, high = min(float(maps.min()), 0.0), float(maps.max()) or 1.0
        for axes, values in zip(_tiles(band, 1, columns), maps, strict=False):
            axes.imshow(values, cmap=SEQUENTIAL, vmin=low, vmax=high)
    return figure


def _first_weights(network: Network) -> tuple[FloatArray, str] | None:
    """(K, C, R, S) weights of the first layer that has some, if it sees the picture; and what they are."""
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        weight = layer.params.get("weight")
        if weight is None:
            if layer.kind != "flatten":
                return None
        elif weight.ndim == 4:
            return weight, f"Filters of the first convolution, {weight.shape[2]}x{weight.shape[3]}"
        elif weight.ndim == 2 and len(network.input_shape) == 3 and shape == (prod(network.input_shape),):
            return weight.reshape(-1, *network.input_shape), "Weights of the first dense layer"
        else:
            return None
    return None


def _image_layers(network: Network) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """For each picture that passes through the network how many layers made it, their kinds, and its shape.

    Layers that keep the shape, such as a ReLU, are taken together with the one in front.
    """
    names: list[str] = []
    for index, (layer, shape) in enumerate(zip(network.layers, network.shapes[1:], strict=True)):
        if len(shape) != 3:
            return
        names.append(layer.kind)
        following = network.shapes[index + 2] if index + 2 < len(network.shapes) else None
        if following != shape:
            yield index + 1, " + ".join(names), shape
            names = []


def _output_of(classifier: Classifier, count: int, image: npt.NDArray[np.uint8]) -> FloatArray:
    """What the first ``count`` layers make of one image."""
    part = classifier.network.copy(count)
    found: FloatArray = part.predict(image[None], pixels=classifier.pixels)[0]
    return found


def _tiles(figure: Any, rows: int, columns: int) -> Iterator[Axes]:
    """Axes without ticks, row by row; those that nobody draws on stay invisible."""
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for axes in grid.flat:
        axes.set_axis_off()
    yield from grid.flat


def _picture(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(C, H, W) as matplotlib wants it: (H, W), or (H, W, 3) for colours."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
