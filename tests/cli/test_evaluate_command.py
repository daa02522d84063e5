"""``mnistnet evaluate`` through real processes."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from mnistnet.cli.console import need_extra
from mnistnet.data import load_data
from mnistnet.errors import UsageError
from mnistnet.formats.checkpoint import load_checkpoint

from .conftest import ROOT, Mnistnet

LENET = ROOT / "ckpt" / "lenet.json"


def test_its_figures_are_scikit_learns_on_all_test_images(mnistnet: Mnistnet) -> None:
    """The issue's line: the same metrics on the same predictions."""
    result = mnistnet("evaluate", LENET, "--data-dir", ROOT / "data", "--json")
    assert (result.code, result.err) == (0, "")
    (found,) = result.json_lines
    test = load_data(ROOT / "data").test
    probabilities = load_checkpoint(LENET).classifier.probabilities(test.images).astype(np.float64)
    predictions = probabilities.argmax(axis=1)
    assert found["images"] == 10000
    assert found["accuracy"] == metrics.accuracy_score(test.labels, predictions)
    assert found["confusion"] == metrics.confusion_matrix(test.labels, predictions).tolist()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert found["loss"] == pytest.approx(metrics.log_loss(test.labels, probabilities), rel=1e-5)
    theirs = metrics.precision_recall_fscore_support(test.labels, predictions)
    for name, values in zip(("precision", "recall", "f1", "images"), theirs, strict=True):
        np.testing.assert_allclose([score[name] for score in found["classes"]], values, rtol=1e-12)
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert len(found["worst_mistakes"]) == 10


def test_a_person_reads_a_line_a_class_and_the_matrix(
    mnistnet: Mnistnet, trained: Path, small_data: Path
) -> None:
    result = mnistnet("evaluate", trained, "--data-dir", small_data)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    counts = [re.match(r"Digit (\d): (\d+) of (\d+) ", line) for line in lines]
    found = {m[1]: (int(m[2]), int(m[3])) for m in counts if m}
    assert list(found) == list("0123456789")
    correct = sum(right for right, _ in found.values())
    assert sum(images for _, images in found.values()) == 200
    assert any(
        line.startswith(f"Accuracy:     {correct / 2:.2f} % ({correct} of 200; 95 %") for line in lines
    )
    matrix = lines[next(i for i, line in enumerate(lines) if line.startswith("Confusion:")) + 2 :][:10]
    for (right, images), line in zip(found.values(), matrix, strict=True):
        row, *cells = line.replace(".", "0").split()
        assert int(cells[int(row)]) == right
        assert sum(map(int, cells)) == images


def test_an_onnx_model_has_the_figures_of_its_checkpoint(
    mnistnet: Mnistnet, trained: Path, small_data: Path
) -> None:
    assert mnistnet("export", "--onnx-path", "m.onnx", "--checkpoint-path", trained).code == 0
    results = [
        mnistnet("evaluate", model, "--data-dir", small_data, "--json") for model in (trained, "m.onnx")
    ]
    ours, theirs = (result.json_lines[0] for result in results)
    assert theirs["confusion"] == ours["confusion"]
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


def test_csv_is_the_table_of_classes(mnistnet: Mnistnet, trained: Path, small_data: Path) -> None:
    result = mnistnet("evaluate", trained, "--data-dir", small_data, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["name"] for row in rows] == list("0123456789")
    assert sum(int(row["images"]) for row in rows) == 200
    assert all(float(row["recall"]) == int(row["correct"]) / int(row["images"]) for row in rows)


def test_plots_are_pictures_in_a_folder(
    mnistnet: Mnistnet, trained: Path, small_data: Path, tmp_path: Path
) -> None:
    result = mnistnet("evaluate", trained, "--data-dir", small_data, "--plots", "deep/pictures")
    assert result.code == 0
    names = {path.name for path in (tmp_path / "deep" / "pictures").iterdir()}
    assert names == {
        *("learning-curves.png", "confusion-matrix.png", "reliability.png"),
        *("worst-mistakes.png", "first-filters.png"),
    }
    for name in names:
        Image.open(tmp_path / "deep" / "pictures" / name).verify()
        assert f"wrote {Path('deep', 'pictures', name)}" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--json", "--csv"], 2, "--json and --csv: give one of them"),
        (["--data-dir", "nowhere"], 3, "nowhere: no such file or folder"),
        (["--plots", LENET], 8, "not a directory: give the name of a folder"),
    ],
)
def test_mistakes_are_said_in_one_line(mnistnet: Mnistnet, arguments: list, code: int, message: str) -> None:
    result = mnistnet("evaluate", LENET, "--data-dir", ROOT / "data", *arguments)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        need_extra("--plots", "no_such_package", "plot")
    assert str(caught.value) == (
        "--plots: needs no_such_package, which is not installed: pip install 'mnistnet[plot]'"
    )
