"""A run's report: figures and pictures on one page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from mnistnet import __version__
from mnistnet.data.dataset import Dataset
from mnistnet.files import check_target, write_atomically
from mnistnet.formats.html.assembly import assemble, base64_text, content_hash, text_of
from mnistnet.models import Classifier
from mnistnet.reports.curves import CurvePoint
from mnistnet.reports.evaluation import CALIBRATION_BINS, CONFIDENCE_LEVEL, Evaluation
from mnistnet.reports.plots import all_plots, png

CAPTIONS = {
    "learning-curves": "Loss and accuracy by epoch.",
    "confusion-matrix": "How often each class was taken for which. The grey diagonal is right.",
    "reliability": "How often the model is right when it is so confident.",
    "worst-mistakes": "The wrong answers that left the true class the least probability.",
    "first-filters": "What the first weights look for: dark purple adds, dark orange takes away.",
    "feature-maps": "What each layer makes of the first test image.",
}


def write_report(
    path: Path,
    classifier: Classifier,
    evaluation: Evaluation,
    dataset: Dataset,
    curve: Sequence[CurvePoint] = (),
) -> None:
    """Write ``report.html``: the figures of an evaluation and every picture, in one file.

    Args:
        path: the file to create or replace.
        classifier: what was evaluated.
        evaluation: of ``classifier`` on ``dataset``.
        dataset: the test images.
        curve: the run's epochs, see `read_curve`.

    Raises:
        OutputError: the file cannot be written.
    """
    check_target(path)
    style = text_of("mnistnet.reports", "report.css")
    low, high = evaluation.accuracy_interval
    escaped = {
        "policy": f"default-src 'none'; img-src data:; style-src {content_hash(style)}",
        "generator": f"mnistnet {__version__}",
        "name": classifier.name,
        "accuracy": f"{100 * evaluation.accuracy:.2f} %",
        "counts": f"{evaluation.correct} of {evaluation.images} test images right",
        "interval": f"{100 * low:.2f} to {100 * high:.2f} %",
        "level": f"{100 * CONFIDENCE_LEVEL:.0f} %",
        "loss": f"{evaluation.loss:.4f}",
        "calibration": f"{100 * evaluation.calibration_error:.2f} %",
        "bins": str(CALIBRATION_BINS),
        "parameters": f"{classifier.network.size:,}",
    }
    figures = all_plots(classifier, evaluation, dataset, curve)
    raw = {
        "style": style,
        "rows": "\n".join(_rows(evaluation)),
        "figures": "\n".join(_figure(CAPTIONS[name], png(figure)) for name, figure in figures.items()),
    }
    page = assemble(text_of("mnistnet.reports", "report.html"), escaped, raw)
    write_atomically(path, page.encode())


def _rows(evaluation: Evaluation) -> Sequence[str]:
    return [
        f"<tr><th scope='row'>{escape(score.name)}</th><td>{score.correct} of {score.images}</td>"
        + "".join(f"<td>{100 * share:.2f} %</td>" for share in (score.precision, score.recall, score.f1))
        + "</tr>"
        for score in evaluation.classes
    ]


def _figure(caption: str, picture: bytes) -> str:
    text = escape(caption)
    source = f"data:image/png;base64,{base64_text(picture)}"
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
