"""Buffers that share memory: never while both are needed, always where it pays."""

from math import prod

import numpy as np
import pytest
from engine_probes import Array
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from mnistnet import models
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan
from mnistnet.engine.workspace import ALIGNMENT, Workspace

REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
        st.sampled_from([np.uint8, np.bool_, np.float32, np.float64]),
        st.integers(0, 12),
        st.integers(0, 6),
        st.sampled_from(["shared", "shared", "shared", "zeros"]),
    ),
    max_size=25,
)


def hand_out(workspace: Workspace, requests) -> list[Array]:
    return [
        workspace.zeros(shape, dtype)
        if kind == "zeros"
        else workspace.take(shape, dtype, first, first + length)
        for shape, dtype, first, length, kind in requests
    ]


@given(REQUESTS)
def test_nobody_writes_into_a_live_buffer(requests):
    """Play a step: whoever begins to live fills its buffer; whoever lives must find its own fill."""
    workspace = Workspace()
    hand_out(workspace, requests)
    workspace.settle()
    arrays = hand_out(workspace, requests)
    for array, (shape, dtype, _, _, kind) in zip(arrays, requests, strict=True):
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if kind == "zeros":
            assert_array_equal(array, 0)
    for moment in range(20):
        living = []
        for i, (array, (_, dtype, first, length, kind)) in enumerate(zip(arrays, requests, strict=True)):
            mark = i % 2 if dtype == np.bool_ else i + 1
            if kind == "zeros":
                assert_array_equal(array, 0)
            elif first <= moment <= first + length:
                if first == moment:
                    array.fill(mark)
                living.append((array, mark))
        for array, mark in living:
            assert_array_equal(array, mark)


@given(REQUESTS)
def test_every_buffer_starts_at_a_cache_line(requests):
    workspace = Workspace()
    hand_out(workspace, requests)
    workspace.settle()
    for array in hand_out(workspace, requests):
        if array.size:
            assert array.ctypes.data % 64 == 0
    assert ALIGNMENT == 64
    assert workspace.nbytes % 64 == 0


@given(REQUESTS)
def test_rewinding_hands_out_the_same_places(requests):
    workspace = Workspace()
    hand_out(workspace, requests)
    workspace.settle()
    first = [array.ctypes.data for array in hand_out(workspace, requests)]
    workspace.rewind()
    assert [array.ctypes.data for array in hand_out(workspace, requests)] == first


def settled(*lives: tuple[int, int]) -> tuple[Workspace, list[Array]]:
    """A workspace with one buffer of 64 bytes for each life."""
    requests = [((64,), np.uint8, first, last - first, "shared") for first, last in lives]
    workspace = Workspace()
    hand_out(workspace, requests)
    workspace.settle()
    return workspace, hand_out(workspace, requests)


def test_lives_that_follow_each_other_share():
    workspace, (one, other) = settled((0, 1), (2, 3))
    assert workspace.nbytes == 64
    assert one.ctypes.data == other.ctypes.data


def test_lives_that_meet_in_one_moment_do_not():
    workspace, (one, other) = settled((0, 2), (2, 3))
    assert workspace.nbytes == 128
    assert not np.shares_memory(one, other)


def test_a_hole_between_two_neighbours_is_used():
    # the last lives beside the first only, in the place of the second
    workspace, (_, second, third) = settled((0, 9), (0, 3), (4, 9))
    assert workspace.nbytes == 128
    assert second.ctypes.data == third.ctypes.data


def test_zeros_share_with_nobody():
    workspace = Workspace()
    for _ in range(2):
        early = workspace.take((16,), np.float32, 0, 0)
        quiet = workspace.zeros((16,), np.float32)
        late = workspace.take((16,), np.float32, 5, 5)
        if not workspace.nbytes:
            workspace.settle()
    assert workspace.nbytes == 128
    assert np.shares_memory(early, late)
    early.fill(7)
    assert_array_equal(quiet, 0)


def test_nbytes_is_zero_before_settling():
    workspace = Workspace()
    workspace.take((16,), np.float32, 0, 0)
    assert workspace.nbytes == 0


def test_an_empty_workspace_settles():
    workspace = Workspace()
    workspace.settle()
    assert workspace.nbytes == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array,
        lambda array: array[1:3],
        lambda array: array.reshape(-1, 2).T,
        lambda array: array.reshape(2, 2, 4)[:, 0][::2],
    ],
    ids=["itself", "slice", "transposed", "view of a view"],
)
def test_touching_a_view_prolongs_the_life_of_its_owner(view):
    workspace = Workspace()
    for _ in range(2):
        early = workspace.take((16,), np.float32, 1, 1)
        workspace.touch(view(early), 4)
        late = workspace.take((16,), np.float32, 3, 3)
        if not workspace.nbytes:
            workspace.settle()
    assert not np.shares_memory(early, late)


def test_touching_an_earlier_moment_counts_too():
    workspace = Workspace()
    for _ in range(2):
        late = workspace.take((16,), np.float32, 5, 5)
        workspace.touch(late, 0)
        early = workspace.take((16,), np.float32, 1, 1)
        if not workspace.nbytes:
            workspace.settle()
    assert not np.shares_memory(early, late)


def test_touching_what_is_not_ours_does_nothing():
    workspace = Workspace()
    workspace.touch(None, 3)
    workspace.touch(np.zeros(3), 3)
    workspace.take((16,), np.uint8, 0, 0)
    workspace.settle()
    assert workspace.nbytes == 64


class CountingWorkspace(Workspace):
    """Adds up what is asked for."""

    asked = 0

    def _hand_out(self, shape, dtype, first, last, *, private):
        self.asked += prod(shape) * np.dtype(dtype).itemsize
        return super()._hand_out(shape, dtype, first, last, private=private)


@pytest.mark.parametrize(
    ("name", "at_most"), [("mlp", 0.9), ("rsnet", 0.8), ("lenet", 0.7), ("wide", 0.5)], ids=str
)
def test_sharing_really_happens(name, at_most, monkeypatch):
    """The deeper the network, the more of it is not needed at once."""
    monkeypatch.setattr("mnistnet.engine.plan.Workspace", CountingWorkspace)
    network = models.build(name)
    gradients = network.views(np.zeros_like(network.vector))
    plan = Plan(network.blueprint(), 32, loss=SoftmaxCrossEntropy(), gradients=gradients)
    asked = plan.workspace.asked / 2  # it is asked twice: to measure and to bind
    assert plan.workspace.nbytes < at_most * asked


def test_training_needs_more_than_inference():
    network: Network = models.build("lenet")
    gradients = network.views(np.zeros_like(network.vector))
    training = Plan(network.blueprint(), 32, loss=SoftmaxCrossEntropy(), gradients=gradients)
    assert Plan(network.blueprint(), 32).workspace.nbytes < training.workspace.nbytes
