"""The benchmark's results as tables, the ratio first."""

from __future__ import annotations

from typing import Any

from report import Table, seconds, spread, times

OURS, ALONE, EAGER = "mnistnet", "mnistnet, 1 worker", "PyTorch eager"
Data = dict[str, Any]

RUST = {
    "rsnet": {64: 8.8e-3, 128: 17.2e-3},
    "lenet": {64: 12.8e-3, 128: 29.4e-3},
    "mlp": {64: 0.46e-3, 128: 0.87e-3},
}
"""Seconds a step of the Rust engine rsnet (ndarray 0.17.2, release build, one thread), the same networks with
momentum: measured apart, once, on another machine (Zen 5)."""


def describe(machine: Data, left_out: list[str]) -> str:
    """What it was measured on, and who is missing."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"- Machine: {machine['processor']}, {machine['cores']} cores; {machine['system']}",
        f"- BLAS kernel of NumPy: {machine['blas_kernel']}",
        f"- Versions: {versions}",
    ]
    if machine["environment"]:
        lines.append(f"- Environment variables that matter: {machine['environment']}")
    if machine["load"] and machine["load"] > 0.5:
        lines.append(f"- **The machine was not idle before: load {machine['load']:.1f}.**")
    if machine["quick"]:
        lines.append("- **A quick run, with too few repetitions to be quoted.**")
    lines += [f"- Left out: {reason}" for reason in left_out]
    return "\n".join(lines) + "\n"


def best_torch(contestants: Data) -> str | None:
    """PyTorch's fastest variant."""
    names = [name for name in contestants if name.startswith("PyTorch")]
    return min(names, key=lambda name: contestants[name]["median"], default=None)


def short(name: str) -> str:
    return name.removeprefix("PyTorch ")


def step_tables(data: Data) -> list[Table]:
    rows, others = [], []
    for row in data["rows"]:
        found = row["contestants"]
        ours = found[OURS]
        where = f"{row['network']}, {row['batch']}"
        best = best_torch(found)
        eager = found.get(EAGER)
        cells = [*"----", where, f"{spread(ours)}, {row['workers']}", spread(found[ALONE]), *"--"]
        if eager and best:
            cells[:2] = [_ratio(eager["ratio"]), f"{times(found[best]['ratio']['median'])} ({short(best)})"]
            cells[2] = " / ".join(times(found[name]["p10"] / ours["p10"]) for name in (EAGER, best))
            cells[3] = " / ".join(
                times((found[name]["median"] + found[name]["loading"]) / ours["median"])
                for name in (EAGER, best)
            )
            cells[7:] = [spread(eager), f"{found[best]['median'] * 1e3:.3g}"]
        cells.append(f"{100 * row['roofline'] / ours['median']:.0f} %")
        rust = RUST.get(row["network"], {}).get(row["batch"])
        cells.append(f"{rust * 1e3:.3g}" if rust else "-")
        rows.append(cells)
        for name, one in found.items():
            loaded = "in it" if name.startswith("mnistnet") else f"{one['loading'] * 1e3:.3g}"
            curve = f"{one['first_loss']:.4f} to {one['last_loss']:.4f}"
            others.append([_ratio(one["ratio"]), where, name, spread(one), loaded, curve])
        if row["compiler"] not in ("works", "not tried"):
            others.append(["-", where, "PyTorch compile", f"left out: {row['compiler']}", "-", "-"])
    columns = [
        "PyTorch eager / mnistnet",
        "best PyTorch / mnistnet",
        "undisturbed",
        "with their loading",
        "network, batch",
        "mnistnet ms, workers",
    ]
    columns += [
        "1 worker ms",
        "PyTorch eager ms",
        "best PyTorch ms",
        "roofline",
        "Rust engine ms, measured apart",
    ]
    note = (
        "Medians and 10th to 90th percentile; the ratio's spread is over the rounds. Undisturbed: both "
        "ratios of the 10th percentiles, for what else a machine does only ever adds time, most of it to two "
        "processes that wait for each other. PyTorch's time is that of a "
        "step on a batch that is ready, mnistnet's contains taking the batch; with their loading: both "
        "ratios, medians, with what PyTorch takes to do that added. Roofline: "
        f"{data['gemm_peak'] / 1e9:.0f} "
        f"GFLOP/s a core (found at {data['gemm_shape']}) and {data['copy_speed'] / 1e9:.0f} GB/s in "
        "L2; direct "
        "convolution's operations, so that Winograd's form may exceed 100 %."
    )
    every = [
        "theirs / mnistnet",
        "network, batch",
        "contestant",
        "step ms",
        "loading ms",
        "loss, first to last",
    ]
    curves = (
        "The loss of the first step, and the mean of the last round: all train, from the same "
        "weights, on the same "
        "batches. Loading is taking the rows and scaling the bytes; it is not in the step's time but "
        "in mnistnet's."
    )
    return [
        Table("Training step", columns, rows, [note]),
        Table("Training step, every contestant", every, others, [curves]),
    ]


def epoch_tables(data: Data) -> list[Table]:
    rows = [
        [_ratio(one["ratio"]), row["network"], name, seconds(one["median"])]
        for row in data["rows"]
        for name, one in row["contestants"].items()
    ]
    note = (
        "60,000 images at batch 64, taking the batches included on all sides; wide once, the others "
        "three times."
    )
    return [Table("Epoch", ["theirs / mnistnet", "network", "contestant", "epoch"], rows, [note])]


def evaluation_tables(data: Data) -> list[Table]:
    note = (
        "10,000 test images. mnistnet starts from bytes, the others from floats that are ready, each at the "
        "best of several batch sizes. PyTorch's layout is contiguous_format unless asked for channels_last."
    )
    return [_predicting("Evaluation", data, note)]


def latency_tables(data: Data) -> list[Table]:
    note = (
        "One image. mnistnet starts from bytes; its first row is the public ``Network.predict``, "
        "which looks up a "
        "plan and sets BLAS to one thread on each call, its second a plan kept by the caller."
    )
    return [_predicting("Latency", data, note)]


def _predicting(title: str, data: Data, note: str) -> Table:
    rows = []
    for row in data["rows"]:
        found = row["contestants"]
        # in the evaluation PyTorch has a row for each memory layout
        teams = ("mnistnet", "PyTorch contiguous_format", "PyTorch channels_last", "PyTorch,", "onnxruntime")
        shown = [name for name in (_best(found, team) for team in teams) if name]
        if title == "Latency":
            shown = [name for name in found if name.startswith("mnistnet")] + shown[1:]
        ours = found[shown[0]]["median"]
        for name in shown:
            difference = row["differences"].get(name.split()[0].rstrip(","), 0.0)
            rows.append(
                [
                    times(found[name]["median"] / ours),
                    row["network"],
                    name,
                    seconds(found[name]["median"]),
                    f"{seconds(found[name]['p10'])}-{seconds(found[name]['p90'])}",
                    f"{difference:.0e}" if difference else "-",
                ]
            )
    columns = [
        "theirs / mnistnet",
        "network",
        "contestant",
        "median",
        "10-90 %",
        "largest difference of a probability",
    ]
    return Table(title, columns, rows, [note])


def _best(found: Data, team: str) -> str | None:
    names = [name for name in found if name.startswith(team)]
    return min(names, key=lambda name: found[name]["median"], default=None)


def process_tables(data: Data) -> list[Table]:
    rows = [
        [_ratio(one["ratio"]), name, seconds(one["median"]), f"{data['accuracies'][name]:.2f} %"]
        for name, one in data["contestants"].items()
    ]
    note = (
        f"lenet, {data['epochs']} epochs, batch 64: from the start of the process, reading the data "
        "included, to "
        "its end with the test accuracy said. The smallest number of epochs with which all reach 99.0 %."
    )
    if min(data["accuracies"].values()) < 99.0:
        note += " **Here not all did.**"
    return [Table("Whole training", ["theirs / mnistnet", "program", "time", "test accuracy"], rows, [note])]


def memory_tables(data: Data) -> list[Table]:
    found = data["peak_bytes"]
    ours = found.get("mnistnet train, lenet") or next(iter(found.values()))
    rows = [[times(one / ours), name, f"{one / 1e6:.0f} MB"] for name, one in found.items()]
    note = (
        "Largest proportional set size, the process and its workers together, looked at every 20 "
        "ms; batch 128."
    )
    return [Table("Peak memory of a training", ["to mnistnet, lenet", "program", "peak"], rows, [note])]


def startup_tables(data: Data) -> list[Table]:
    found = data["commands"]
    ours = found["mnistnet --help"]["median"]
    rows = [[times(one["median"] / ours), name, f"{spread(one)} ms"] for name, one in found.items()]
    return [Table("Start", ["to mnistnet --help", "process", "time"], rows)]


def conv_tables(data: Data) -> list[Table]:
    rows = []
    for row in data["rows"]:
        ours = row["contestants"][OURS]["median"]
        x, weight = ("x".join(map(str, row[key])) for key in ("x", "weight"))
        for name, one in row["contestants"].items():
            rows.append(
                [times(one["median"] / ours), f"{row['name']}: {x} by {weight}", name, seconds(one["median"])]
            )
    note = (
        "Output, weight gradient and input gradient on one core. The loops do two images and are "
        "scaled to the batch. "
        "PyTorch's operators are called without its tape."
    )
    return [Table("One convolution", ["theirs / mnistnet", "convolution", "form", "time"], rows, [note])]


def scaling_tables(data: Data) -> list[Table]:
    rows = []
    for name, points in data.items():
        if name == "workers":
            continue
        for point in points:
            found = point["contestants"]
            eager = found.get(EAGER)
            rows.append(
                [
                    _ratio(eager["ratio"]) if eager else "-",
                    f"{name} {point['value']}",
                    spread(found[OURS]),
                    spread(found[ALONE]),
                    spread(eager) if eager else "-",
                ]
            )
    columns = ["PyTorch eager / mnistnet", "lenet with", "mnistnet ms", "1 worker ms", "PyTorch eager ms"]
    note = (
        "Everything else as in lenet at batch 64 with 28 x 28 images. Channels: the factor of "
        "both convolutions'."
    )
    return [Table("How the step grows", columns, rows, [note]), _workers_table(data["workers"])]


def _workers_table(points: list[Data]) -> Table:
    """Measured on the cores that there are; beyond, a fit of ``a + b / workers``."""
    measured = {point["value"]: point["contestants"][OURS]["median"] for point in points}
    one = measured[1]
    rows = [
        [times(one / value), str(count), f"{value * 1e3:.3g}", "measured"]
        for count, value in measured.items()
    ]
    notes = ["lenet at batch 512, 16 shards of 32 images."]
    most = max(measured)
    if most > 1:
        shared = (one - measured[most]) / (1 - 1 / most)
        for count in (4, 8, 16):
            if count > most:
                value = one - shared + shared / count
                rows.append([times(one / value), str(count), f"{value * 1e3:.3g}", "*extrapolated*"])
        notes.append(
            f"Extrapolated by Amdahl's law from 1 and {most} workers: {100 * shared / one:.0f} % of "
            "the step is "
            "shared out, the rest is not; memory and the meeting of more processes are not in it."
        )
    return Table("How the step shrinks with workers", ["to 1 worker", "workers", "step ms", ""], rows, notes)


def _ratio(found: Data) -> str:
    """A ratio with its spread over the rounds."""
    return f"{times(found['median'])} ({found['p10']:.2f}-{found['p90']:.2f})"


MAKERS = {
    "step": step_tables,
    "epoch": epoch_tables,
    "evaluation": evaluation_tables,
    "latency": latency_tables,
    "process": process_tables,
    "memory": memory_tables,
    "startup": startup_tables,
    "conv": conv_tables,
    "scaling": scaling_tables,
}


def tables(results: Data) -> list[Table]:
    """Every table that there are results for."""
    sections = results["sections"]
    return [table for name, make in MAKERS.items() if name in sections for table in make(sections[name])]
