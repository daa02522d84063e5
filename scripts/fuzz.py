"""Damage files in every way and see whether reading and using them ever breaks anything.

    python scripts/fuzz.py                              # every format, 1,000 inputs each
    python scripts/fuzz.py idx onnx --count 100000 --seed 1
    python scripts/fuzz.py picture --only 4711 --seed 1 # one input again, in this process

Each input either works or is refused with one line: any other exception, a warning, more than two seconds of
processor time, an allocation beyond what the file's size and statements warrant, or the end of the process
is a fault. Inputs that broke something go to --faults; once mended they belong in tests/corpus/.
Needs Linux: processes are forked, and the system limits their memory.
"""

from __future__ import annotations

import os

# before NumPy is loaded: a forked process has no threads, and one core is enough for small files
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import contextlib
import faulthandler
import hashlib
import json
import mmap
import select
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from checkout import ROOT

sys.path.insert(0, str(ROOT / "tests" / "fuzzing"))

from fuzz_judge import Fault, judge, make_input
from fuzz_targets import TARGETS, corpus, make_folder

BATCH = 500
"""Inputs of one process: what one left behind does not disturb for long."""
PATIENCE = 60
"""Seconds without any progress after which a process is killed: it hangs where Python cannot look."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(TARGETS))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="number of the only input")
    parser.add_argument("--faults", type=Path, default=Path("fuzz-faults"))
    arguments = parser.parse_args()
    faults = 0
    for name in arguments.formats or TARGETS:
        if name not in TARGETS:
            parser.error(f"no format {name!r}: expected {', '.join(TARGETS)}")
        if arguments.only is not None:
            faults += once(name, arguments.seed, arguments.only)
        else:
            faults += attack(name, arguments.seed, arguments.first, arguments.count, arguments.faults)
    sys.exit(faults > 0)


def once(name: str, seed: int, number: int) -> bool:
    """One input in this process, where a debugger can look."""
    with tempfile.TemporaryDirectory() as place:
        data = make_input(name, seed, number)
        accepted, fault = judge(name, data, make_folder(Path(place), name), limited=True)
    print(f"{name} {number}: {len(data)} bytes, {'accepted' if accepted else 'refused'}")
    if fault is not None:
        print(f"{fault.kind}\n{fault.detail}")
    return fault is not None


def attack(name: str, seed: int, first: int, count: int, faults: Path) -> int:
    """All inputs of a format in processes of their own; how many broke something."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    warm_up(name, place)
    start, tried, accepted, kinds, shown = time.perf_counter(), 0, 0, Counter(), set()
    number = first
    while number < first + count:
        stop = min(number + BATCH, first + count)
        for record in batch(name, seed, number, stop, place):
            if record["kind"] == "end":
                accepted += record["accepted"]
                number = record["next"]
                tried = number - first
                continue
            kinds[record["kind"]] += 1
            if record["kind"] not in shown:
                shown.add(record["kind"])
                keep(name, seed, record, faults)
    seconds = time.perf_counter() - start
    print(
        f"{name}: {tried} inputs, {accepted} accepted, {sum(kinds.values())} faults of {len(kinds)} kinds,"
        f" {seconds:.0f} s, seed {seed}",
        flush=True,
    )
    for kind, times in kinds.most_common():
        print(f"  {times:6} {kind}")
    return sum(kinds.values())


def warm_up(name: str, place: Path) -> None:
    """Load and allocate here what every process needs, so that it counts as nobody's."""
    folder = make_folder(place, name)
    for data in corpus(name):
        judge(name, data, folder)


def batch(name: str, seed: int, first: int, stop: int, place: Path):
    """Try inputs in a process of their own: records of faults, then one of how far it came."""
    progress = mmap.mmap(-1, 16)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(receive)
            _work(name, seed, range(first, stop), place, progress, send)
        os._exit(1)
    os.close(send)
    said, last, since = b"", -1, time.monotonic()
    while True:
        ready, _, _ = select.select([receive], [], [], 1.0)
        piece = os.read(receive, 1 << 16) if ready else b""
        if ready and not piece:
            break
        said += piece
        now = struct.unpack("<qq", progress[:16])[0]
        if now != last or ready:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            os.kill(child, signal.SIGKILL)
            break
    os.close(receive)
    _, status = os.waitpid(child, 0)
    records = [json.loads(line) for line in said.splitlines()]
    yield from records
    if not records or records[-1]["kind"] != "end":
        number, accepted = struct.unpack("<qq", progress[:16])
        signalled = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no signal"
        yield {"kind": f"process ended: {signalled}", "number": number, "detail": ""}
        yield {"kind": "end", "accepted": accepted, "next": number + 1}


def _work(name: str, seed: int, numbers: range, place: Path, progress: mmap.mmap, send: int) -> None:
    faulthandler.enable()
    folder = make_folder(place, name)
    log = os.open(folder / "stderr", os.O_CREAT | os.O_RDWR)
    os.dup2(log, 2)
    accepted = 0
    with open(send, "w", encoding="utf-8") as out, Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        for number in numbers:
            progress[:16] = struct.pack("<qq", number, accepted)
            fine, fault = judge(name, make_input(name, seed, number), folder, limited=True)
            accepted += fine
            fault = fault or _said_on_stderr(log)
            if fault is not None:
                record = {"kind": fault.kind, "number": number, "detail": fault.detail}
                out.write(json.dumps(record) + "\n")
                out.flush()
        out.write(json.dumps({"kind": "end", "accepted": accepted, "next": numbers.stop}) + "\n")
    os._exit(0)


def _said_on_stderr(log: int) -> Fault | None:
    """What libraries that are not Python's wrote past Python's streams."""
    if not os.fstat(log).st_size:
        return None
    said = os.pread(log, 3000, 0).decode(errors="replace")
    os.ftruncate(log, 0)
    os.lseek(log, 0, os.SEEK_SET)
    return Fault(f"printed: {' '.join(said.split())[:60]}", said)


def keep(name: str, seed: int, record: dict, faults: Path) -> None:
    """The first input of a kind, for the corpus, and what it broke."""
    data = make_input(name, seed, record["number"])
    stem = faults / name / hashlib.sha256(data).hexdigest()[:12]
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.write_bytes(data)
    said = f"seed {seed}, input {record['number']}\n{record['kind']}\n{record['detail']}"
    stem.with_suffix(".txt").write_text(said, encoding="utf-8", errors="replace")
    print(f"{name} {record['number']}: {record['kind']}", flush=True)


if __name__ == "__main__":
    main()
