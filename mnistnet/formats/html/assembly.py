"""Putting pages together from templates and the files beside them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib import resources


def assemble(template: str, escaped: Mapping[str, str], raw: Mapping[str, str]) -> str:
    """A template with each ``{{name}}`` replaced; what is put in is not searched again.

    Args:
        template: HTML.
        escaped: text, which becomes HTML.
        raw: HTML, and the content of elements.
    """
    parts = {**{name: escape(text) for name, text in escaped.items()}, **raw}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def text_of(package: str, name: str) -> str:
    """A text file that lies in a package."""
    return (resources.files(package) / name).read_text(encoding="utf-8")


def content_hash(text: str) -> str:
    """What a content security policy calls a style or script that may be in the page."""
    return f"'sha256-{base64_text(hashlib.sha256(text.encode()).digest())}'"


def base64_text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")
