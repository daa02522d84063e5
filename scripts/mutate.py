"""The mutation score of the engine: how many small faults, put into its code one at a time, the tests notice.

What faults there are is in ``scripts/mutants.py``. Every mutant is tried in a copy of the project, by the
tests that run the changed statement: the module's own first, then the quick ones, until one fails. It is
killed when a test fails, when the process ends by itself, or when a test takes far too long.

    python scripts/mutate.py --sample 800 --results mutants.jsonl
    python scripts/mutate.py --retry mutants.jsonl --results again.jsonl   # those that lived, with new tests
    python scripts/mutate.py --list mnistnet/engine/plan.py                # no test is run

mutmut changes neither what is decorated (properties, dataclasses) nor constants of modules and classes, and
cosmic-ray starts an interpreter for every mutant; neither knows ``out=``, or NumPy's functions for operators.
For Linux: mutants are forked, so that NumPy, onnx and pytest are loaded once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutants import Mutant, apply, mutants_of

ROOT = Path(__file__).parents[1]
TOKEN = "MNISTNET_MUTATION"
"""An environment variable that all processes of a mutant have, by which they are found and ended."""
MEMORY = 8 << 30  # bytes of address space that a mutant may take
GRACE = 20.0  # seconds a test may take beyond ten times its usual


def copy_of_project(folder: Path) -> Path:
    """What git knows of the project, and what is not committed yet, in ``folder``."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    tree = folder / "tree"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def in_a_fork(work: Callable[[], int], tree: Path, limit: float) -> int:
    """Run ``work`` in a process of its own, and end whatever it has started.

    Returns:
        What it returned, or minus the signal that ended it: -SIGKILL after ``limit`` seconds.
    """
    token = os.urandom(8).hex()
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                _settle_in(tree, Path(scratch), token)
                code = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        deadline = time.monotonic() + limit
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                break
            time.sleep(0.01)
        _end_all(token)
    return os.waitstatus_to_exitcode(status)


def _settle_in(tree: Path, scratch: Path, token: str) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    quiet = os.open(tree.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2):
        os.dup2(quiet, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ |= {
        TOKEN: token,
        "CI": "1",
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(tree),
    }
    tempfile.tempdir = None
    os.chdir(tree)
    sys.path.insert(0, str(tree))


def _end_all(token: str) -> None:
    """End every process whose environment has the token."""
    mark = f"{TOKEN}={token}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


@dataclass
class Map:
    """Which tests run which lines, and how long each test takes."""

    seconds: dict[str, float]
    tests: dict[str, dict[int, list[str]]]
    """By path and line."""

    def choose(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant, the module's own first, then by their time."""
        lines = self.tests.get(mutant.path, {})
        first, last = mutant.lines
        found = {name for line in range(first, last + 1) for name in lines.get(line, ())}
        own = f"test_{Path(mutant.path).stem}.py"
        if not found:  # run when the module is imported, or in a worker process
            everything = {name for by_line in self.tests.get(mutant.path, {}).values() for name in by_line}
            team = {
                n for n in self.seconds if n.split("::")[0].endswith(("test_workers.py", "test_minibatch.py"))
            }
            found = everything | team
        return sorted(found, key=lambda n: (not n.split("::")[0].endswith(own), self.seconds[n], n))


class _Mapper:
    """A pytest plugin: each test is a context of coverage's, and is timed."""

    def __init__(self, measured: Any) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.measured.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration


class _Selection:
    """A pytest plugin: runs the chosen tests in their order, each with a limit, and quick Hypothesis."""

    def __init__(self, chosen: Sequence[str], seconds: dict[str, float], failed: Path) -> None:
        self.order = {name: i for i, name in enumerate(chosen)}
        self.seconds = seconds
        self.failed = failed
        """Where the name of a test that fails is written."""

    def pytest_sessionstart(self) -> None:
        _quick_hypothesis()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # the signal's own action ends the process, also from within a call of NumPy's
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, GRACE + 10 * self.seconds[nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.write_text(report.nodeid)

    def pytest_runtest_logfinish(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _quick_hypothesis() -> None:
    """The same examples each time; the first that fails is enough."""
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        settings.get_profile("ci"),
        phases=(Phase.explicit, Phase.generate),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")


OPTIONS = (
    *("-q", "-x", "-o", "addopts="),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"),
    *("-W", "ignore:Module already imported"),  # what was loaded before the fork
)


def draw_map(tree: Path, folders: Sequence[str]) -> Map:
    """Run the tests once in the copy, without a fault."""
    target = tree.parent / "map.json"

    def work() -> int:
        import coverage
        import pytest

        measured = coverage.Coverage(
            data_file=str(tree.parent / "coverage"),
            config_file=False,
            source=[str(tree / "mnistnet" / "engine")],
        )
        mapper = _Mapper(measured)
        measured.start()
        code = int(pytest.main([*OPTIONS, *folders], plugins=[mapper]))
        measured.stop()
        data = measured.get_data()
        tests = {
            Path(name).relative_to(tree).as_posix(): {
                line: [c for c in contexts if c] for line, contexts in data.contexts_by_lineno(name).items()
            }
            for name in data.measured_files()
        }
        target.write_text(json.dumps({"seconds": mapper.seconds, "tests": tests}))
        return code

    code = in_a_fork(work, tree, 3600)
    if code:
        print((tree.parent / "log").read_text())
        raise SystemExit(f"the tests without a fault: expected them to pass, found exit code {code}")
    return read_map(target)


def warm_up(tree: Path, folders: Sequence[str]) -> None:
    """Leave the bytecode of package and tests in the copy, for every mutant to use."""

    def work() -> int:
        import pytest

        return int(pytest.main([*OPTIONS, "--collect-only", *folders]))

    in_a_fork(work, tree, 600)


def read_map(path: Path) -> Map:
    """A map that `draw_map` left."""
    read = json.loads(path.read_text())
    tests = {p: {int(line): names for line, names in lines.items()} for p, lines in read["tests"].items()}
    return Map(read["seconds"], tests)


def verdict(mutant: Mutant, tree: Path, the_map: Map, budget: float) -> dict[str, Any]:
    """Try one mutant.

    Args:
        mutant: what to change.
        tree: the copy.
        the_map: which tests to run.
        budget: seconds of tests (as the map has them) after which it counts as alive.
    """
    chosen, total = [], 0.0
    candidates = the_map.choose(mutant)
    for name in candidates:
        total += the_map.seconds[name]
        if total > budget and chosen:
            break
        chosen.append(name)
    failed = tree.parent / "failed"
    failed.unlink(missing_ok=True)

    def work() -> int:
        import pytest

        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        files = list(dict.fromkeys(name.split("::")[0] for name in chosen))
        return int(pytest.main([*OPTIONS, *files], plugins=[_Selection(chosen, the_map.seconds, failed)]))

    path = tree / mutant.path
    original, times = path.read_bytes(), path.stat()
    began = time.monotonic()
    try:
        path.write_bytes(apply(mutant, original))
        # or its bytecode and the original's would be taken for each other
        os.utime(path, (times.st_atime, times.st_mtime + 10))
        code = in_a_fork(work, tree, 120 + 10 * total)
    finally:
        path.write_bytes(original)
        os.utime(path, (times.st_atime, times.st_mtime))
    too_slow = code in (-signal.SIGALRM, -signal.SIGKILL)
    what = "alive" if code == 0 else "timeout" if too_slow else "killed"
    return {
        **asdict(mutant),
        "key": mutant.key,
        "verdict": what,
        "code": code,
        "by": failed.read_text() if failed.exists() else "",
        "tests": len(chosen),
        "all_tests": len(chosen) == len(candidates),
        "seconds": round(time.monotonic() - began, 2),
    }


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in percent."""
    z, share = 1.959964, killed / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return tuple(100 * (middle + s * half) / (1 + z * z / count) for s in (-1, 1))  # type: ignore[return-value]


def summary(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The score, as a table by module, and the mutants that live."""
    by_path: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        by_path[result["path"]][result["verdict"]] += 1
    yield "| module | mutants | killed | of them too slow | alive |"
    yield "|---|---|---|---|---|"
    total: Counter[str] = Counter()
    for path, counts in sorted(by_path.items()):
        total += counts
        yield _row(f"`{path.removeprefix('mnistnet/engine/')}`", counts)
    yield _row("all", total)
    killed, count = total.total() - total["alive"], total.total()
    low, high = interval(killed, count)
    yield f"score {100 * killed / count:.1f} % ({killed} of {count}; 95 % interval {low:.1f} to {high:.1f} %)"
    for result in results:
        if result["verdict"] == "alive":
            more = "" if result["all_tests"] else " (not all tests)"
            yield f"{result['path']}:{result['line']} {result['scope']}: {result['operator']}{more}"
            yield f"    - {result['before']}"
            yield f"    + {result['after']}"


def _row(name: str, counts: Counter[str]) -> str:
    count = counts.total()
    return f"| {name} | {count} | {count - counts['alive']} | {counts['timeout']} | {counts['alive']} |"


def read_results(path: Path) -> list[dict[str, Any]]:
    """What an earlier run wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def choose_mutants(args: argparse.Namespace) -> list[Mutant]:
    """All mutants of the paths, a sample of them, or those that lived in an earlier run."""
    mutants = []
    for place in args.paths or [ROOT / "mnistnet" / "engine"]:
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            mutants += mutants_of(path.resolve(), ROOT)
    print(f"{len(mutants)} mutants in {len({m.path for m in mutants})} files", flush=True)
    if args.retry:
        alive = {r["key"] for r in read_results(args.retry) if r["verdict"] == "alive"}
        return [m for m in mutants if m.key in alive]
    # in an order drawn at random, so that those tried first are a sample too
    random.Random(args.seed).shuffle(mutants)
    return mutants[: args.sample]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders; all of the engine if none")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"), help="goes on where it ended")
    parser.add_argument("--retry", type=Path, help="only the mutants that lived in these results")
    parser.add_argument(
        "--tests", nargs="+", default=["tests/engine", "tests/training", "tests/test_models.py"]
    )
    parser.add_argument("--map", type=Path, help="which tests run which lines, kept from run to run")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests for a mutant that lives")
    parser.add_argument("--list", action="store_true", help="only say what would be tried")
    parser.add_argument("--summary", action="store_true", help="only say what the results are")
    args = parser.parse_args()
    if args.summary:
        print("\n".join(summary(read_results(args.results))))
        return
    mutants = choose_mutants(args)
    if args.list:
        for mutant in mutants:
            print(f"{mutant.path}:{mutant.line} {mutant.operator}: {mutant.before!r} -> {mutant.after!r}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        tree = copy_of_project(Path(scratch))
        preload()
        if args.map and args.map.exists():
            the_map = read_map(args.map)
            warm_up(tree, args.tests)
        else:
            the_map = draw_map(tree, args.tests)
            if args.map:
                shutil.copy(tree.parent / "map.json", args.map)
        done = {result["key"] for result in read_results(args.results)}
        with args.results.open("a") as log:
            for mutant in mutants:
                if mutant.key not in done:
                    print(json.dumps(verdict(mutant, tree, the_map, args.budget)), file=log, flush=True)
    print("\n".join(summary(read_results(args.results))))


def preload() -> None:
    """Load what every mutant needs, but nothing of the project."""
    import hypothesis
    import numpy.testing
    import onnx.reference
    import pydantic
    import pytest

    del hypothesis, numpy, onnx, pydantic, pytest
    assert not any(name.split(".")[0] == "mnistnet" for name in sys.modules)


if __name__ == "__main__":
    main()
