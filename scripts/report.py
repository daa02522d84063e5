"""Tables in Markdown, and how they get into the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Table:
    """A title, a table, and what has to be known to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def markdown(self) -> str:
        """With a heading of the third level."""
        lines = [f"### {self.title}", ""]
        lines += [_line(self.columns), _line(["---"] * len(self.columns)), *(_line(row) for row in self.rows)]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def paste(path: Path, mark: str, text: str) -> None:
    """Put text between the marks ``<!-- mark:begin -->`` and ``<!-- mark:end -->`` of a file.

    A file without the marks, or none, is written with the text alone.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        _, after = rest.split(end, 1)
        text = f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"
    path.write_text(text, encoding="utf-8")


def times(value: float) -> str:
    """A ratio in bold: two figures, for more would not come out again."""
    return f"**{value:.2f}**" if value < 10 else f"**{value:.0f}**"


def seconds(value: float) -> str:
    """Seconds with a unit that suits them."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def spread(summary: dict[str, float], factor: float = 1e3) -> str:
    """``median (10th-90th percentile)``; of seconds, in milliseconds."""
    low, middle, high = (summary[key] * factor for key in ("p10", "median", "p90"))
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"
