"""Measuring: whose turn it is, and what is made of the times."""

from mnistnet.reports.timing import in_turn, percentile, ratio, repeat, summary


def test_everybody_begins_a_round_in_turn() -> None:
    order: list[str] = []

    def turn(name: str) -> list[float]:
        order.append(name)
        return [float(len(order))]

    found = in_turn({name: lambda name=name: turn(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert found["b"] == [[2.0], [4.0], [9.0]]


def test_ratios_and_spread_by_hand() -> None:
    theirs, ours = [[4.0, 6.0], [8.0, 8.0]], [[2.0, 2.0], [4.0, 2.0]]
    # medians 7 and 2 of all; by round 5 / 2 and 8 / 3
    assert ratio(theirs, ours) == {"median": 3.5, "p10": 2.5, "p90": 8 / 3}
    assert percentile(list(range(100)), 0.1) == 10
    assert summary([3.0, 1.0, 2.0]) == {"median": 2.0, "p10": 1.0, "p90": 3.0, "count": 3}


def test_the_first_call_is_not_counted() -> None:
    calls: list[int] = []
    assert len(repeat(lambda: calls.append(0), 0, least=4)) == 4
    assert len(calls) == 5
