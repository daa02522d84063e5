"""Imported first by the scripts: they measure the package of this checkout, installed or not."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
DATA = ROOT / "data"
"""The four MNIST files."""

sys.path.insert(0, str(ROOT))
