"""The report is one file that says what was found."""

import re
from pathlib import Path

import numpy as np
import pytest

from mnistnet.data.dataset import Dataset
from mnistnet.errors import OutputError
from mnistnet.models import Classifier, build
from mnistnet.reports.evaluation import evaluate
from mnistnet.reports.report import write_report

NAMES = ("<b>zero", "one & only", *map(str, range(8)))
RNG = np.random.default_rng(0)
DATA = Dataset(RNG.integers(0, 256, (40, 1, 28, 28), np.uint8), RNG.integers(0, 10, 40), NAMES)
CLASSIFIER = Classifier(build("mlp").initialize(seed=1), NAMES, name="<mlp>")


def test_the_report_holds_figures_and_pictures_and_loads_nothing(tmp_path: Path) -> None:
    found = evaluate(CLASSIFIER, DATA)
    write_report(tmp_path / "report.html", CLASSIFIER, found, DATA)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "{{" not in text
    assert f"{100 * found.accuracy:.2f} %" in text
    assert f"{found.correct} of 40 test images right" in text
    assert "&lt;b&gt;zero" in text
    assert "<b>zero" not in text
    assert "<title>&lt;mlp&gt;" in text
    assert text.count('<img src="data:image/png;base64,') == 4
    assert not re.search(r"(?:src|href)\s*=\s*\"(?!data:)|@import|url\(|<script", text)


def test_a_path_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        write_report(tmp_path, CLASSIFIER, evaluate(CLASSIFIER, DATA), DATA)
