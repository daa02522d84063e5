"""The benchmark's ratios as a picture: on the left a training step, on the right everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tables import EAGER, OURS, best_torch, short

Data = dict[str, Any]

# Okabe and Ito's colours, told apart by every kind of sight; the shapes tell them apart in print
MARKS = {
    "PyTorch eager": ("#0072B2", "o"),
    "PyTorch, best variant": ("#D55E00", "D"),
    "scikit-learn": ("#009E73", "s"),
    "JAX jit": ("#CC79A7", "^"),
    "onnxruntime": ("#E69F00", "v"),
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100)
DODGE = {"PyTorch eager": -0.16, "PyTorch, best variant": 0.16}
"""These two are often alike: a little above and below their row, so that none covers the other."""
Point = tuple[str, str, float]
"""Row, contestant, ratio."""


def draw(results: Data, path: Path) -> None:
    """Draw what there are results for.

    Raises:
        SystemExit: matplotlib is not installed, or there is nothing to draw.
    """
    try:
        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise SystemExit("--picture needs matplotlib: pip install matplotlib") from error

    sections = results["sections"]
    sides = [
        (points, title)
        for points, title in (
            (step_points(sections), "A training step"),
            (other_points(sections), "Everything else"),
        )
        if points
    ]
    if not sides:
        raise SystemExit("--picture: there is nothing measured to draw")
    most = max(len({row for row, _, _ in points}) for points, _ in sides)
    mpl.rcParams.update({"font.size": 10, "svg.hashsalt": "mnistnet", "svg.fonttype": "path"})
    figure, axes = plt.subplots(
        1, len(sides), figsize=(5.6 * len(sides), 1.5 + 0.36 * most), squeeze=False, layout="constrained"
    )
    for axis, (points, title) in zip(axes[0], sides, strict=True):
        _panel(axis, points, title)
    seen = {name for points, _ in sides for _, name, _ in points}
    handles = [
        plt.Line2D([], [], color=colour, marker=mark, linestyle="", markersize=7, label=name)
        for name, (colour, mark) in MARKS.items()
        if name in seen
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    machine = results["machine"]
    quick = ", a quick run: not to be quoted" if machine["quick"] else ""
    figure.suptitle(
        f"How many times as long as mnistnet ({machine['processor']}, {machine['cores']} cores{quick})",
        fontsize=11,
    )
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _panel(axis: Any, points: list[Point], title: str) -> None:
    """One dot a contestant, one line a row; the line at 1 is mnistnet."""
    rows = list(dict.fromkeys(row for row, _, _ in points))
    for row, name, value in points:
        colour, mark = MARKS[name]
        height = rows.index(row) + DODGE.get(name, 0.0)
        axis.plot(value, height, mark, color=colour, markersize=7, markeredgecolor="white", zorder=3)
    values = [value for _, _, value in points]
    low, high = min(0.8, *values) * 0.9, max(2.0, *values) * 1.15
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.axvline(1, color="black", linewidth=1.2, zorder=2)
    axis.grid(axis="both", color="0.88", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel("theirs / mnistnet's (right of the line: mnistnet is better)")


def step_points(sections: Data) -> list[Point]:
    """Ratios of every network and batch size."""
    points = []
    for row in sections.get("step", {}).get("rows", []):
        where = f"{row['network']}, {row['batch']}"
        found = row["contestants"]
        points += [
            (where, name, found[name]["ratio"]["median"])
            for name in ("PyTorch eager", "scikit-learn", "JAX jit")
            if name in found
        ]
        best = best_torch(found)
        if best and short(best) != "eager":
            points.append((where, "PyTorch, best variant", found[best]["ratio"]["median"]))
    return points


def other_points(sections: Data) -> list[Point]:
    """Ratios of epochs, whole programs, evaluation, latency, start and memory."""
    points: list[Point] = []
    for row in sections.get("epoch", {}).get("rows", []):
        points += _training(f"epoch, {row['network']}", row["contestants"])
    if "process" in sections:
        points += _training("whole training, lenet", sections["process"]["contestants"])
    for section, label in (("evaluation", "10,000 images"), ("latency", "one image")):
        for row in sections.get(section, {}).get("rows", []):
            found = row["contestants"]
            ours = min(v["median"] for k, v in found.items() if k == OURS or k.startswith("mnistnet, 1 t") or
                       (section == "evaluation" and k.startswith("mnistnet")))  # fmt: skip
            for team, name in (("PyTorch", "PyTorch, best variant"), ("onnxruntime", "onnxruntime")):
                theirs = [v["median"] for k, v in found.items() if k.startswith(team)]
                if theirs:
                    points.append((f"{label}, {row['network']}", name, min(theirs) / ours))
    commands = sections.get("startup", {}).get("commands", {})
    ours = commands.get("mnistnet run: load lenet, read a picture")
    for command, name in (
        ("import torch", "PyTorch eager"), ("import scikit-learn's MLP", "scikit-learn"),
        ("import jax", "JAX jit"), ("import onnxruntime", "onnxruntime"),
    ):  # fmt: skip
        if ours and command in commands:
            points.append(("its import / our whole run", name, commands[command]["median"] / ours["median"]))
    peaks = sections.get("memory", {}).get("peak_bytes", {})
    if {"mnistnet train, lenet", "train_pytorch.py, lenet"} <= set(peaks):
        value = peaks["train_pytorch.py, lenet"] / peaks["mnistnet train, lenet"]
        points.append(("peak memory, lenet", "PyTorch, best variant", value))
    return points


def _training(where: str, found: Data) -> list[Point]:
    points = [
        (where, name, found[name]["ratio"]["median"])
        for name in (EAGER, "scikit-learn", "JAX jit")
        if name in found
    ]
    best = best_torch(found)
    if best and best != EAGER:
        points.append((where, "PyTorch, best variant", found[best]["ratio"]["median"]))
    return points
