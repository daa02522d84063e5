"""The table of recipes in README.md: test accuracy by seed, and the seconds of the whole process.

Every run is a process of its own, as a person would start it, in a folder that is kept where ``--keep`` says,
so that any run can be done again from its run.toml. The test set is read once a run, by ``mnistnet train``.

    python scripts/measure_recipes.py fast accurate plain --seeds 5
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev

from mnistnet.training.settings import recipe_settings

ROOT = Path(__file__).parents[1]
RUNS = {
    "fast": ["--recipe", "fast"],
    "accurate": ["--recipe", "accurate"],
    "plain": ["--recipe", "accurate", "--augment", "none", "--nb-epochs", "10", "--weight-decay", "0.001"],
    "best": ["--recipe", "best"],
}
"""The flags of each line; plain is a single network without augmentation."""


@dataclass(frozen=True)
class Outcome:
    """One run."""

    accuracy: float
    """Percent of the test set."""
    seconds: float


def run(flags: list[str], seed: int, folder: Path) -> Outcome:
    """Train once, in ``folder``."""
    command = [sys.executable, "-m", "mnistnet", "train", *flags, "--seed", str(seed)]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--train-data-dir", str(ROOT / "data"), "--checkpoint-folder", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"^Test accuracy: ([\d.]+) %", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return Outcome(float(found[1]), time.perf_counter() - started)


def line(name: str, outcomes: list[Outcome]) -> str:
    """A row of the table."""
    found = [outcome.accuracy for outcome in outcomes]
    spread = f" ± {stdev(found):.2f}" if len(found) > 1 else ""
    each = " / ".join(f"{accuracy:.2f}" for accuracy in found)
    seconds = median(outcome.seconds for outcome in outcomes)
    return f"| `{name}` | {mean(found):.2f}{spread} % | {each} | {seconds:.1f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=RUNS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where the runs' folders go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for name in args.names:
            # an ensemble takes as many seeds as it has members
            networks = recipe_settings("best")["members"] if name == "best" else 1
            seeds = [seed * networks for seed in range(args.seeds)]
            print(
                line(name, [run(RUNS[name], seed, folder / f"{name}_{seed}") for seed in seeds]), flush=True
            )


if __name__ == "__main__":
    main()
