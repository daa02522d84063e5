"""Reading back what a run logged."""

from pathlib import Path

import pytest

from mnistnet.errors import DataError
from mnistnet.reports.curves import CurvePoint, read_curve
from mnistnet.training.runs import RunFolder
from mnistnet.training.trainer import EpochResult


def test_a_runs_csv_is_read_back(tmp_path: Path) -> None:
    results = [
        EpochResult(1, 0.5, 0.8, 0.4, 0.85, 0.05, 1.0),
        EpochResult(2, 0.3, 0.9, None, None, 0.04, 1.0),
    ]
    with RunFolder(tmp_path / "run") as run:
        for result in results:
            run.log(result)
    assert read_curve(run.csv_path) == (
        CurvePoint(1, 0.5, 0.8, validation_accuracy=0.85, validation_loss=0.4),
        CurvePoint(2, 0.3, 0.9, validation_accuracy=None, validation_loss=None),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,0.5\n", "expected a loss CSV of mnistnet train: no column 'accuracy_of'"),
        (
            "epoch,loss,accuracy,accuracy_of,training_accuracy,validation_loss\n1,x,1,training,1,\n",
            "line 2: expected numbers: could not convert string to float: 'x'",
        ),
        ("epoch,loss,accuracy_of,training_accuracy\n1\n", "line 2: expected numbers"),
        (
            f"epoch,loss,accuracy_of,training_accuracy\n{'9' * 200_000}",
            "line 1: expected numbers: field larger than",
        ),
    ],
)
def test_another_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "loss.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_curve(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_number_of_no_end_does_not_fill_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    columns = "epoch,loss,accuracy,accuracy_of,training_accuracy,validation_loss"
    path.write_text(f"{columns}\n1,{'0.5' * 9000},1,training,1,\n")
    with pytest.raises(DataError) as caught:
        read_curve(path)
    start = f"{path}: line 2: expected numbers: "
    assert str(caught.value).startswith(start)
    assert len(str(caught.value)) == len(start) + 200


def test_a_csv_without_epochs_is_an_empty_curve(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").touch()
    assert read_curve(tmp_path / "loss.csv") == ()
