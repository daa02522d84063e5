"""``mnistnet info`` through real processes."""

import json
from pathlib import Path

import pytest

from .conftest import ROOT, Mnistnet

LENET = ROOT / "ckpt" / "lenet.json"


def test_a_person_reads_layers_costs_and_training(mnistnet: Mnistnet) -> None:
    result = mnistnet("info", LENET)
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == [f"{LENET}:", "lenet"]
    assert ["37,610", "354,048"] in lines
    second = "3 conv2d out_channels 16, kernel_size 5x5, stride 1x1, padding 0x0 16x8x8 3,216 204,800"
    assert second.split() in lines
    assert ["seed", "0"] in lines
    assert result.out.isascii()


def test_json_is_the_same_for_a_program(mnistnet: Mnistnet) -> None:
    (found,) = mnistnet("info", LENET, "--json").json_lines
    assert (found["parameters"], found["multiply_adds"], found["parameter_bytes"]) == (
        37610,
        354048,
        4 * 37610,
    )
    assert found["layers"][3]["config"]["kernel_size"] == [5, 5]
    training = found["training"]
    assert (training["optimizer"], training["loss_function"]) == ("momentum", "auto")
    assert training["loss"] == pytest.approx(0.0147, abs=1e-4)


def test_two_runs_are_told_apart(mnistnet: Mnistnet, trained: Path, tmp_path: Path) -> None:
    first, last = trained / "checkpoint_1.json", trained / "latest.json"
    result = mnistnet("info", first, "--diff", last)
    assert (result.code, result.err) == (0, "")
    assert ["training.epoch", "1", "3"] in [line.split() for line in result.out.splitlines()]
    (found,) = mnistnet("info", first, "--diff", trained, "--json").json_lines
    assert found["facts"]["training.epoch"] == [1, 3]
    assert found["weights"]["1.weight"] > 0
    record = json.loads(last.read_text())
    del record["checksum"]
    (tmp_path / "sure.json").write_text(json.dumps({**record, "confidence_threshold": 0.5}))
    (found,) = mnistnet("info", last, "--diff", "sure.json", "--json").json_lines
    assert found["facts"] == {"confidence_threshold": [None, 0.5]}
    same = mnistnet("info", last, "--diff", trained / "checkpoint_3.json")
    assert same.out.endswith("agree in every fact and every weight\n")


def test_a_file_that_is_none_is_refused(mnistnet: Mnistnet, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    result = mnistnet("info", LENET, "--diff", "x.json")
    assert (result.code, result.err.count("\n")) == (4, 1)
    assert result.err.startswith("mnistnet: x.json: ")
