"""How products are cut, and that BLAS runs on one thread where it should."""

import subprocess
import sys
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from mnistnet.engine import blas
from mnistnet.engine.blas import block_of, largest_divisor, one_thread


@pytest.mark.parametrize(
    ("size", "limit", "options", "expected"),
    [
        (100, 100, {}, 100),
        (100, 60, {}, 50),
        (100, 49, {}, 25),
        (100, 9, {}, 100),  # 5 and less are below the least: not cut at all
        (100, 9, {"least": 5}, 5),
        (97, 96, {}, 97),  # a prime number
        (512, 300, {"multiple": 16}, 256),
        (480, 300, {"multiple": 16}, 240),
        (200, 150, {"multiple": 16}, 200),  # 8 x 25 has no divisor that is a multiple of 16
        (512, 31, {"multiple": 16, "least": 32}, 512),
        (784, 10_000, {}, 784),
        (1, 1, {}, 1),
    ],
)
def test_largest_divisor(size, limit, options, expected):
    assert largest_divisor(size, limit, **options) == expected


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 16), st.integers(1, 64))
def test_a_divisor_divides(size, limit, multiple, least):
    found = largest_divisor(size, limit, multiple=multiple, least=least)
    assert size % found == 0
    fitting = [d for d in range(least, min(size, limit) + 1) if size % d == 0 and d % multiple == 0]
    assert found == max(fitting, default=size)


@pytest.mark.parametrize(
    ("size", "others", "expected"),
    [
        (100, 10_000, 100),  # exactly a million
        (128, 10_000, 64),
        (128, 100_000, 8),
        (128, 200_000, 128),  # blocks of 5 would be below the least
    ],
)
def test_blocks_stay_below_a_million(size, others, expected, monkeypatch):
    monkeypatch.setattr(blas, "cuts_products", lambda: True)
    assert block_of(size, others) == expected
    monkeypatch.setattr(blas, "cuts_products", lambda: False)
    assert block_of(size, others) == size


@pytest.mark.parametrize(
    ("kernel", "cuts"),
    [
        ("SkylakeX", True),
        ("Cooperlake", True),
        ("SapphireRapids", True),
        ("Zen", False),
        ("Haswell", False),
        ("neoversen1", False),
        ("unknown", False),
    ],
)
def test_only_avx512_kernels_cut(kernel, cuts, monkeypatch):
    monkeypatch.setattr(blas, "kernel", lambda: kernel)
    assert blas.cuts_products.__wrapped__() is cuts


def test_the_kernel_has_a_name():
    assert isinstance(blas.kernel(), str)
    assert blas.kernel()


def threads_of_blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_one_thread_and_back():
    before = threads_of_blas()
    with one_thread():
        assert set(threads_of_blas()) <= {1}
    assert threads_of_blas() == before


def test_the_last_one_out_restores_what_was():
    before = threads_of_blas()
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_thread())
    second.enter_context(one_thread())
    first.close()
    assert set(threads_of_blas()) <= {1}
    second.close()
    assert threads_of_blas() == before


class Library:
    """A BLAS that says how often it was told."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.told = []

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads
        self.told.append(threads)


def test_a_blas_that_has_one_thread_is_left_alone(monkeypatch):
    """Telling it takes longer than asking; a worker's has one from the start."""
    several, one = Library(4), Library(1)
    monkeypatch.setattr(blas, "_libraries", lambda: (several, one))
    with one_thread(), one_thread():
        assert (several.threads, one.threads) == (1, 1)
    assert several.told == [1, 4]
    assert one.told == []


def test_an_error_inside_restores_what_was():
    before = threads_of_blas()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert threads_of_blas() == before


def test_the_blas_is_there_to_be_asked_whoever_asks_first():
    code = "from mnistnet.engine import blas; raise SystemExit(not blas._libraries())"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
