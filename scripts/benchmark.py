"""Measure mnistnet against PyTorch, scikit-learn, JAX and onnxruntime, side by side in one run.

Every library works in a process of its own; the contestants take turns of many steps, for many rounds, from
the same weights on the same batches of MNIST. Ratios are the other's median time over mnistnet's: above 1,
mnistnet is faster. Libraries that are not installed are left out, and named.

    python scripts/benchmark.py                          # everything, an hour or more
    python scripts/benchmark.py --quick                  # everything, briefly: only to see that it works
    python scripts/benchmark.py --only step,conv --json results.json
    python scripts/benchmark.py --from-json results.json --markdown docs/performance.md --picture a.svg

Leave OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and the like unset, and the machine to the benchmark alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from checkout import DATA, ROOT
from contestants import Torch, TorchCompile, convolution_data
from convolutions import FORMS
from hosts import Host, HostError
from measure import Finished, run_python
from report import paste
from roofline import copy_speed, gemm_peak, least_seconds

from mnistnet.engine.blas import kernel, one_thread
from mnistnet.engine.division import choose_workers
from mnistnet.engine.workers import usable_cores
from mnistnet.models import MODELS
from mnistnet.reports.timing import flat, in_turn, ratio, repeat, summary

FLUSHED = "PyTorch with flush_denormal"
TEAMS = {
    "mnistnet": "contestants:Mnistnet",
    "PyTorch": "contestants:Torch",
    FLUSHED: "contestants:TorchFlushed",
    "PyTorch's compiler": "contestants:TorchCompile",
    "scikit-learn": "contestants:Sklearn",
    "JAX": "contestants:Jax",
    "onnxruntime": "contestants:OnnxRuntime",
}
OURS, ALONE, EAGER = "mnistnet", "mnistnet, 1 worker", "PyTorch eager"
STEPS = {"rsnet": 150, "lenet": 80, "mlp": 500, "wide": 15}
"""Steps that are timed in a round: about as long for every network. As many before them are not: for tens of
milliseconds the threads of the one before still spin and the cores wake up, which is half of a short turn."""
WARM = 3
"""Steps before an epoch is timed."""
TARGET = 99.0
"""Percent of the test set that a whole training has to reach."""
MOST_EPOCHS = 6
CONVOLUTIONS = {
    "lenet's second": ((32, 8, 12, 12), (16, 8, 5, 5)),
    "wide's second": ((16, 32, 26, 26), (32, 32, 3, 3)),
}
LOOPED_IMAGES = 2
"""The naive loops do so many images; their time is scaled to the batch."""
Data = dict[str, Any]


@dataclass
class Settings:
    """How long to measure, and what."""

    quick: bool
    networks: list[str]
    batches: list[int]
    rounds: int
    compile_seconds: float
    left_out: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long one thing is repeated."""
        return 0.1 if self.quick else 1.0

    @property
    def repeats(self) -> int:
        """How often a whole process is run."""
        return 2 if self.quick else 7


@contextmanager
def hosts(settings: Settings, names: list[str]) -> Iterator[dict[str, Host]]:
    """A process for each team; those that cannot be had are said to be left out."""
    found: dict[str, Host] = {}
    try:
        for name in names:
            try:
                found[name] = Host(TEAMS[name])
            except HostError as error:
                message = f"{name}: {error}"
                if message not in settings.left_out:
                    settings.left_out.append(message)
        yield found
    finally:
        for host in found.values():
            host.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine(settings: Settings) -> Data:
    """What it was measured on."""
    once = [name for name in TEAMS if name not in ("mnistnet", FLUSHED, "PyTorch's compiler")]
    with hosts(settings, once) as teams:
        versions = {name: host.ask("version") for name, host in teams.items()}
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text())
        model = names[0] if names else model
    unusual = {k: v for k, v in os.environ.items() if re.match(r"(OPENBLAS|OMP|MKL|GOMP|ATEN)_", k)}
    return {
        "processor": model,
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "blas_kernel": kernel(),
        "versions": {"NumPy": np.__version__, **versions},
        "environment": unusual,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "quick": settings.quick,
    }


def measure_step(settings: Settings) -> Data:
    """One training step of every network at every batch size, all contestants in turn."""
    peak, shape = gemm_peak(settings.seconds / 2)
    speed = copy_speed(settings.seconds / 2)
    rows = []
    with hosts(settings, ["mnistnet", "PyTorch", FLUSHED, "scikit-learn", "JAX"]) as teams:
        for name in settings.networks:
            for batch in settings.batches:
                say(f"step: {name}, batch {batch}")
                case = Case(name, batch)
                row = _steps_of(settings, teams, case, max(5, STEPS[name] // (4 if settings.quick else 1)))
                network = case.build()
                row |= {"network": name, "batch": batch, "workers": choose_workers(network, batch)}
                row["roofline"] = least_seconds(network, batch, peak, speed, usable_cores())
                rows.append(row)
    return {"rows": rows, "gemm_peak": peak, "gemm_shape": shape, "copy_speed": speed}


def _steps_of(
    settings: Settings,
    teams: dict[str, Host],
    case: Case,
    steps: int,
    variants: dict[str, tuple[str, ...]] | None = None,
) -> Data:
    """Rounds of steps of every variant of every team; also PyTorch's compiler where it can be had."""
    with _compiler(settings, case, wanted=variants is None) as (compiler, said):
        turns: dict[str, Callable[[], list[float]]] = {}
        loading: dict[str, list[float]] = {}
        owners: dict[str, Host] = {}
        for team, host in {**teams, **compiler}.items():
            names = host.ask("prepare", case, None if variants is None else variants[team])
            owners |= dict.fromkeys(names, host)

        def turn(name: str) -> list[float]:
            pairs = owners[name].ask("round", name, steps, steps)
            loading.setdefault(name, []).extend(load for load, _ in pairs)
            return [step for _, step in pairs]

        for name in owners:
            turns[name] = lambda name=name: turn(name)
        found = in_turn(turns, settings.rounds)
        losses = {name: host.ask("losses", name) for name, host in owners.items()}
        for host in {**teams, **compiler}.values():
            host.ask("release")
    contestants = {}
    for name, rounds in found.items():
        curve = losses[name]
        contestants[name] = {
            **summary(flat(rounds)),
            "loading": statistics.median(loading[name]),
            "ratio": ratio(rounds, found[OURS]) if OURS in found else None,
            "first_loss": curve[0],
            "last_loss": float(np.mean(curve[-steps:])),
        }
    return {"contestants": contestants, "compiler": said, "steps": len(losses[next(iter(losses))])}


@contextmanager
def _compiler(settings: Settings, case: Case, *, wanted: bool) -> Iterator[tuple[dict[str, Host], str]]:
    """PyTorch's compiler in a process for this case alone, if it is ready within its time."""
    if not wanted or settings.compile_seconds <= 0:
        yield {}, "not tried"
        return
    with hosts(settings, ["PyTorch's compiler"]) as teams:
        said = "left out"
        for host in teams.values():
            try:
                host.ask("prepare", case, TorchCompile.variants, timeout=settings.compile_seconds)
                said = "works"
            except HostError as error:
                said = str(error)
        if said != "works":
            teams = {}
        yield {name: _Prepared(host) for name, host in teams.items()}, said  # type: ignore[misc]


class _Prepared:
    """A host that has compiled already and is not to do it again."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ask(self, method: str, *arguments: Any) -> Any:
        if method == "prepare":
            return list(TorchCompile.variants)
        return self._host.ask(method, *arguments)


def measure_epoch(settings: Settings) -> Data:
    """One pass through 60,000 images at batch 64, loading included, in turn."""
    chosen = {
        "mnistnet": (OURS, ALONE),
        "PyTorch": (EAGER, "PyTorch fused", "PyTorch channels_last, fused"),
        "scikit-learn": None,
        "JAX": None,
    }
    rows = []
    networks = settings.networks
    if settings.quick:
        networks = [name for name in networks if name != "wide"]
    with hosts(settings, list(chosen)) as teams:
        for name in networks:
            say(f"epoch: {name}")
            owners: dict[str, Host] = {}
            for team, host in teams.items():
                names = host.ask("prepare", Case(name, 64), chosen[team])
                owners |= dict.fromkeys(names, host)
                for variant in names:
                    host.ask("round", variant, WARM, 1)
            turns = {v: (lambda v=v, h=h: [h.ask("epoch", v)]) for v, h in owners.items()}
            # an epoch of wide takes all contestants together some seven minutes
            found = in_turn(turns, 1 if settings.quick or name == "wide" else 3)
            rows.append({"network": name, "contestants": _with_ratios(found)})
            for host in teams.values():
                host.ask("release")
    return {"rows": rows}


def _with_ratios(found: dict[str, list[list[float]]]) -> Data:
    """Medians, spreads, and the ratio to ours, of what was measured in turn."""
    return {
        name: {**summary(flat(rounds)), "ratio": ratio(rounds, found[OURS])} for name, rounds in found.items()
    }


def measure_evaluation(settings: Settings) -> Data:
    """Predicting the 10,000 test images: every contestant at its best batch size."""
    return _predicting(settings, "evaluation", [n for n in ("lenet", "rsnet") if n in settings.networks])


def measure_latency(settings: Settings) -> Data:
    """Predicting one image."""
    return _predicting(settings, "latency", settings.networks)


def _predicting(settings: Settings, method: str, networks: list[str]) -> Data:
    """What each team's ``evaluation`` or ``latency`` finds, in a few rounds; and whether they agree."""
    rows = []
    rounds = 2 if settings.quick else 5
    with hosts(settings, ["mnistnet", "PyTorch", "onnxruntime"]) as teams:
        for name in networks:
            say(f"{method}: {name}")
            found: dict[str, list[float]] = {}
            for _ in range(rounds):
                for host in teams.values():
                    for variant, times in host.ask(method, name, settings.seconds / rounds).items():
                        found.setdefault(variant, []).extend(times)
            outputs = {team: host.ask("predictions", name) for team, host in teams.items()}
            differences = {
                team: float(np.max(np.abs(value - outputs["mnistnet"]))) for team, value in outputs.items()
            }
            contestants = {variant: summary(times) for variant, times in found.items()}
            rows.append({"network": name, "contestants": contestants, "differences": differences})
    return {"rows": rows}


def measure_process(settings: Settings) -> Data:
    """Whole trainings of lenet, data read, from the start of the process to its end."""

    def ours(epochs: int) -> Finished:
        with tempfile.TemporaryDirectory() as folder:
            return run_python(*_train_arguments(folder, "--nb-epochs", str(epochs)))

    def theirs(epochs: int, *more: str) -> Finished:
        script = str(ROOT / "scripts" / "train_pytorch.py")
        return run_python(script, "--train-data-dir", str(DATA), "--nb-epochs", str(epochs), *more)

    runs: dict[str, Callable[[int], Finished]] = {
        OURS: ours,
        "PyTorch channels_last, fused": theirs,
        EAGER: lambda epochs: theirs(epochs, "--plain"),
    }
    if not _has_torch(settings):
        runs = {OURS: ours}
    epochs, accuracies = _enough_epochs(settings, runs)
    found: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(1 if settings.quick else 3):
        for name, run in runs.items():
            say(f"process: {name}, {epochs} epochs")
            finished = run(epochs)
            found[name].append([finished.seconds])
    return {"epochs": epochs, "accuracies": accuracies, "contestants": _with_ratios(found)}


def _train_arguments(folder: str, *more: str) -> tuple[str, ...]:
    run = str(Path(folder) / "run")
    return ("-m", "mnistnet", "train", "--train-data-dir", str(DATA), "--checkpoint-folder", run, *more)


def _enough_epochs(
    settings: Settings, runs: dict[str, Callable[[int], Finished]]
) -> tuple[int, dict[str, float]]:
    """The smallest number of epochs with which all reach the target, and what they reach."""
    accuracies: dict[str, float] = {}
    for epochs in range(1, 2 if settings.quick else MOST_EPOCHS + 1):
        accuracies = {}
        for name, run in runs.items():
            say(f"process: does {name} reach {TARGET} % in {epochs} epochs?")
            said = re.search(r"Test accuracy: ([\d.]+)", run(epochs).output)
            accuracies[name] = float(said.group(1)) if said else 0.0
        if min(accuracies.values()) >= TARGET:
            break
    return epochs, accuracies


def _has_torch(settings: Settings) -> bool:
    with hosts(settings, ["PyTorch"]) as teams:
        return bool(teams)


def measure_memory(settings: Settings) -> Data:
    """Peak memory of a training process and its workers, at batch 128."""
    found = {}
    for name in ("lenet", "wide"):
        if name not in settings.networks:
            continue
        say(f"memory: {name}")
        limit = ["--limit", "6400"] if name == "wide" else []
        with tempfile.TemporaryDirectory() as folder:
            arguments = _train_arguments(folder, "--model", name, "--batch-size", "128", "--nb-epochs", "1")
            found[f"mnistnet train, {name}"] = run_python(*arguments, *limit, watch_memory=True).peak_bytes
    if _has_torch(settings):
        script = str(ROOT / "scripts" / "train_pytorch.py")
        arguments = (script, "--train-data-dir", str(DATA), "--nb-epochs", "1", "--batch-size", "128")
        found["train_pytorch.py, lenet"] = run_python(*arguments, watch_memory=True).peak_bytes
    return {"peak_bytes": found}


def measure_startup(settings: Settings) -> Data:
    """Processes that do next to nothing, in turn."""
    sample = str(DATA / "samples" / "7.png")
    with tempfile.TemporaryDirectory() as folder:
        run_python(*_train_arguments(folder, "--nb-epochs", "0"))
        checkpoint = str(Path(folder) / "run" / "latest.json")
        commands = {
            "python": ("-c", "pass"),
            "import numpy": ("-c", "import numpy"),
            "mnistnet --help": ("-m", "mnistnet", "--help"),
            "mnistnet run: load lenet, read a picture": ("-m", "mnistnet", "run", checkpoint, sample),
            "import torch": ("-c", "import torch"),
            "import jax": ("-c", "import jax"),
            "import onnxruntime": ("-c", "import onnxruntime"),
            "import scikit-learn's MLP": ("-c", "from sklearn.neural_network import MLPClassifier"),
        }
        turns: dict[str, Callable[[], list[float]]] = {}
        for name, command in commands.items():
            try:
                run_python(*command)
            except RuntimeError as error:
                say(f"startup: {name} is left out: {error}")
                continue
            turns[name] = lambda command=command: [run_python(*command).seconds]
        found = in_turn(turns, settings.repeats)
    return {"commands": {name: summary(flat(rounds)) for name, rounds in found.items()}}


def measure_conv(settings: Settings) -> Data:
    """One convolution alone on one core: output, weight gradient and input gradient."""
    rows = []
    with hosts(settings, ["mnistnet", "PyTorch"]) as teams:
        for name, (shape, weights) in CONVOLUTIONS.items():
            say(f"conv: {name}")
            found: dict[str, list[float]] = {}
            data = convolution_data(shape, weights)
            few = convolution_data((LOOPED_IMAGES, *shape[1:]), weights)
            with one_thread():
                found["full im2col"] = repeat(
                    lambda data=data: FORMS["full im2col"](*data), settings.seconds, least=2
                )
            scale = shape[0] / LOOPED_IMAGES
            found["naive loops"] = [
                t * scale for t in repeat(lambda few=few: FORMS["naive loops"](*few), 0.0, least=1)
            ]
            for _ in range(3):
                found.setdefault(OURS, []).extend(
                    teams["mnistnet"].ask("convolution", shape, weights, settings.seconds / 3)
                )
                if "PyTorch" in teams:
                    both = teams["PyTorch"].ask("convolution", shape, weights, settings.seconds / 3)
                    for variant, times in both.items():
                        found.setdefault(variant, []).extend(times)
            contestants = {variant: summary(times) for variant, times in found.items()}
            rows.append({"name": name, "x": shape, "weight": weights, "contestants": contestants})
    return {"rows": rows}


def measure_scaling(settings: Settings) -> Data:
    """How lenet's step grows with batch, image side, channels and workers."""
    cores = usable_cores()
    counts = [n for n in (1, 2, 4, 8, 16) if n <= cores]
    if cores not in counts:
        counts.append(cores)
    sweeps = {
        "batch": [(size, Case("lenet", size)) for size in (16, 32, 64, 128, 256, 512)],
        "image side": [(side, Case("lenet", 64, side=side)) for side in (16, 20, 28, 40, 56)],
        "channels": [(width, Case("lenet", 64, width=width)) for width in (1, 2, 4)],
    }
    found: Data = {}
    rounds, settings.rounds = settings.rounds, max(2, settings.rounds // 3)
    with hosts(settings, ["mnistnet", "PyTorch"]) as teams:
        for name, points in sweeps.items():
            found[name] = []
            for value, case in points:
                say(f"scaling: {name} {value}")
                variants = {"mnistnet": (OURS, ALONE), "PyTorch": Torch.variants[:1]}
                row = _steps_of(settings, teams, case, 40, variants)
                found[name].append({"value": value, "contestants": row["contestants"]})
        found["workers"] = []
        names = tuple(f"mnistnet, {n} worker{'s' * (n > 1)}" for n in counts)
        say("scaling: workers")
        only = {"mnistnet": teams["mnistnet"]}
        row = _steps_of(settings, only, Case("lenet", 512), 40, {"mnistnet": names})
        for count, name in zip(counts, names, strict=True):
            found["workers"].append({"value": count, "contestants": {OURS: row["contestants"][name]}})
    settings.rounds = rounds
    return found


SECTIONS: dict[str, Callable[[Settings], Data]] = {
    "step": measure_step,
    "epoch": measure_epoch,
    "evaluation": measure_evaluation,
    "latency": measure_latency,
    "process": measure_process,
    "memory": measure_memory,
    "startup": measure_startup,
    "conv": measure_conv,
    "scaling": measure_scaling,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", metavar="A,B", help=f"sections: {', '.join(SECTIONS)}")
    add("--quick", action="store_true", help="few repetitions: to see that it works, not to quote")
    add("--networks", default=",".join(("rsnet", "lenet", "mlp", "wide")), metavar="A,B")
    add("--batches", default="64,128", metavar="N,N")
    add("--rounds", type=int, help="rounds in which contestants take turns (default 15, quick 3)")
    add(
        "--compile-seconds",
        type=float,
        help="for torch.compile, each case (default 180, quick 0; 0: not tried)",
    )
    add("--json", type=Path, metavar="FILE", help="write all that was measured")
    add("--from-json", type=Path, metavar="FILE", help="begin with what an earlier run measured")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables, between benchmark:begin and :end if there",
    )
    add("--picture", type=Path, metavar="FILE", help="draw the ratios (.svg or .png; needs matplotlib)")
    args = parser.parse_args()
    args.sections = args.only.split(",") if args.only else [] if args.from_json else list(SECTIONS)
    for name in args.sections:
        if name not in SECTIONS:
            parser.error(f"--only: expected some of {', '.join(SECTIONS)}, found {name!r}")
    args.networks = args.networks.split(",")
    for name in args.networks:
        if name not in MODELS:
            parser.error(f"--networks: expected some of {', '.join(MODELS)}, found {name!r}")
    args.batches = [int(size) for size in args.batches.split(",")]
    return args


def main() -> None:
    args = arguments()
    settings = Settings(
        quick=args.quick,
        networks=args.networks,
        batches=args.batches,
        rounds=args.rounds or (3 if args.quick else 15),
        compile_seconds=(0 if args.quick else 180) if args.compile_seconds is None else args.compile_seconds,
    )
    results: Data = {"sections": {}}
    if args.from_json:
        results = json.loads(args.from_json.read_text(encoding="utf-8"))
    if args.sections:
        results["machine"] = machine(settings)
    from tables import describe, tables

    print(describe(results["machine"], settings.left_out), flush=True)
    for name in args.sections:
        results["sections"][name] = SECTIONS[name](settings)
        results["left_out"] = settings.left_out
        if args.json:  # after every section, so that nothing is lost
            args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
        for table in tables({"sections": {name: results["sections"][name]}}):
            print(table.markdown(), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if args.markdown:
        text = describe(results["machine"], results.get("left_out", []))
        paste(args.markdown, "benchmark", "\n".join([text, *(t.markdown() for t in tables(results))]))
    if args.picture:
        from picture import draw

        draw(results, args.picture)


if __name__ == "__main__":
    main()
