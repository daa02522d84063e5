"""A short attack on every format; scripts/fuzz.py is the long one.

Every input that ever broke something is in the corpus, and is tried here first.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from random import Random

import fuzz_mutations
import pytest
from fuzz_judge import judge, make_input
from fuzz_targets import CORPUS, TARGETS, corpus, make_folder

COUNT = 150
LIMITED = sys.platform == "linux"
"""Where a process can limit its own memory."""

every_format = pytest.mark.parametrize("name", TARGETS)


@pytest.fixture
def folder(tmp_path: Path, name: str) -> Path:
    return make_folder(tmp_path, name)


@every_format
def test_the_corpus_begins_with_sound_files(name: str, folder: Path) -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    sound = [path.name for path in sorted((CORPUS / name).iterdir()) if not path.name.startswith("fault-")]
    # the step for IDX comes first; the minimal network is one for pictures of 4x4
    refused = {"gzip": {"csv"}, "rsnet": {"minimal"}}.get(name, set())
    taken = {each for each in sound if judge(name, (CORPUS / name / each).read_bytes(), folder)[0]}
    assert taken == set(sound) - refused


@every_format
def test_nothing_in_the_corpus_breaks_anything(name: str, folder: Path) -> None:
    for data in corpus(name):
        _, fault = judge(name, data, folder)
        assert fault is None


@every_format
def test_damaged_files_are_refused_in_one_line(name: str, folder: Path) -> None:
    for number in range(COUNT):
        _, fault = judge(name, make_input(name, 0, number), folder)
        assert fault is None, f"scripts/fuzz.py {name} --seed 0 --only {number}: {fault}"


def test_an_input_is_the_same_for_the_same_number() -> None:
    inputs = [make_input("idx", 3, number) for number in range(40)]
    assert inputs == [make_input("idx", 3, number) for number in range(40)]
    assert len(set(inputs)) > 30


# the judge itself ------------------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The verdict on a step of our own."""

    def verdict(step, *, limited: bool = False):
        from fuzz_targets import Target

        monkeypatch.setitem(TARGETS, "ours", Target("file", (step,), (), warranted=lambda data: 32 << 20))
        return judge("ours", b"data", tmp_path, limited=limited)

    return verdict


def test_the_judge_sees_what_breaks(judged) -> None:
    import warnings

    from mnistnet.errors import DataError

    def refuse(message: str, cause: BaseException | None = None):
        def step(path: Path) -> None:
            raise DataError(message) from cause

        return step

    assert judged(lambda path: None) == (True, None)
    assert judged(refuse("file: expected this, found that")) == (False, None)
    assert judged(lambda path: 1 // 0)[1].kind.startswith("ZeroDivisionError")
    assert judged(lambda path: sys.exit(3))[1].kind.startswith("SystemExit")
    assert judged(lambda path: warnings.warn("odd", stacklevel=1))[1].kind.startswith("UserWarning")
    assert judged(refuse(""))[1].kind.startswith("message of no")
    assert judged(refuse("x" * 4000))[1].kind.startswith("message of too many")
    assert judged(refuse("does not fit", MemoryError()))[1].kind.startswith("memory")


@pytest.mark.skipif(not LIMITED, reason="only Linux limits a process's memory")
def test_the_judge_sees_waste(tmp_path: Path) -> None:
    """In a process of its own, for the limits are a process's."""
    import subprocess

    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from pathlib import Path
import fuzz_judge, fuzz_targets
from fuzz_targets import Target, TARGETS
fuzz_judge.MOST_SECONDS = 0.2
def slow(path):
    while True:
        pass
for step in (slow, lambda path: bytearray(1 << 30), lambda path: bytearray(1 << 20)):
    TARGETS["ours"] = Target("file", (step,), (), warranted=lambda data: 64 << 20)
    print(fuzz_judge.judge("ours", b"", Path({str(tmp_path)!r}), limited=True))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    slow, much, little = done.stdout.splitlines()
    assert "slow: " in slow
    assert "MemoryError: " in much
    assert little == "(True, None)"


def test_structures_are_damaged_behind_their_checksums() -> None:
    """Most changed trees, archives and chunks still have right sums, or the code behind is never reached."""
    from mnistnet.errors import CheckpointError
    from mnistnet.formats.checkpoint import decode_checkpoint

    reasons = []
    for number in range(200):
        data = fuzz_mutations.json_tree(Random(number), corpus("checkpoint")[1], corpus("checkpoint"))
        try:
            decode_checkpoint(data)
        except CheckpointError as error:
            reasons.append(str(error))
    assert len(reasons) > 100
    assert sum("corrupt" in reason for reason in reasons) < 30
    png = next(data for data in corpus("picture") if data.startswith(b"\x89PNG"))
    for number in range(20):
        changed = fuzz_mutations.png_chunks(Random(number), png, [png])
        size = int.from_bytes(changed[8:12])
        assert zlib.crc32(changed[12 : 16 + size]) == int.from_bytes(changed[16 + size : 20 + size])
