"""The same seed gives the same bytes: with 1, 2 and 4 workers, again and again, on every Python there is.

A network with convolutions, batch normalization and dropout is trained with augmentation, averaged weights,
clipping and label smoothing. Each further interpreter needs mnistnet's
dependencies, with the same NumPy: another one may bring another BLAS, which rounds in another way.

    python scripts/attack_determinism.py
    python scripts/attack_determinism.py --pythons python3.12 python3.13
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = [
    *("--model", "deep", "--nb-epochs", "2", "--limit", "640", "--validation-split", "0.2", "--seed", "7"),
    *("--augment", "elastic", "--average-decay", "0.9", "--clip-norm", "1", "--label-smoothing", "0.1"),
    *("--batch-size", "128"),
]
TIMED = "loss.csv"


def train(python: str, folder: Path, *flags: str) -> None:
    subprocess.run(
        [
            *(python, "-m", "mnistnet", "train", "--train-data-dir", str(ROOT / "data"), *flags),
            *("--checkpoint-folder", str(folder)),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def digests(folder: Path) -> dict[str, str]:
    """A hash of every file; of the CSV without its last column, the seconds."""
    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.name == TIMED:
            data = b"\n".join(line.rpartition(b",")[0] for line in data.splitlines())
        found[path.name] = hashlib.sha256(data).hexdigest()
    return found


def versions(python: str) -> str:
    code = "import platform, numpy; print('Python', platform.python_version(), 'NumPy', numpy.__version__)"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pythons", nargs="*", default=[], help="other interpreters")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        expected: dict[str, str] = {}
        runs = 0
        for python in [sys.executable, *options.pythons]:
            for workers in options.workers:
                for _ in range(options.repeats):
                    runs += 1
                    folder = Path(place) / str(runs)
                    train(python, folder, *RUN, "--workers", str(workers))
                    found = digests(folder)
                    expected = expected or found
                    if found != expected:
                        different = [name for name in expected if found.get(name) != expected[name]]
                        print(f"{versions(python)}, {workers} workers: other bytes in {different}")
                        return 1
                print(
                    f"{versions(python)}, {workers} workers, {options.repeats} runs: the same bytes",
                    flush=True,
                )
        print(f"{runs} runs of {len(expected)} files each; latest.json {expected['latest.json'][:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
