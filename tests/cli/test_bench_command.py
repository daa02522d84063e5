"""``mnistnet bench`` through real processes."""

from .conftest import Mnistnet


def test_a_table_and_the_machine(mnistnet: Mnistnet) -> None:
    result = mnistnet("bench", "--model", "mlp", "--rounds", "1", "--cores", "1")
    assert result.code == 0
    first, header, ours, *others = result.out.splitlines()
    assert first.startswith("1 of ")
    assert header.split() == ["network", "training", "prediction", "one", "image"]
    assert ours.split()[:2] == ["mlp", "mnistnet"]
    assert any(line.split()[:2] == ["mlp", "onnxruntime"] for line in others)


def test_json(mnistnet: Mnistnet) -> None:
    (found,) = mnistnet("bench", "--model", "rsnet", "--rounds", "1", "--json").json_lines
    assert found["speeds"][0]["contestant"] == "mnistnet"
    assert found["speeds"][0]["training"] > 0
    assert found["machine"]["cores"] >= found["settings"]["cores"] >= 1


def test_a_wrong_name_is_said(mnistnet: Mnistnet) -> None:
    result = mnistnet("bench", "--model", "lenett")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "did you mean lenet?" in result.err
