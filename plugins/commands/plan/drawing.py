"""The page and the picture of a plan: what ``content.py`` has, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.files import replace_file
from pipeloom.plugins.commands.plan.page import page_of


def write_page(path: str, content: Dict[str, Any]) -> None:
    """Write one page that needs nothing else. Raises ``UsageError`` where the file cannot be written."""
    write_text(path, page_of(content))


def write_text(path: str, page: str) -> None:
    """Write a page; the file appears whole. Raises ``UsageError`` where it cannot be written."""
    _write(path, "--html", page.encode())


def write_picture(path: str, content: Dict[str, Any]) -> None:
    """Write the placement and the timeline as PNG. Raises ``UsageError`` without the package that draws it."""
    from pipeloom.plugins.commands.plan.picture import picture_of

    _write(path, "--png", picture_of(content))


def _write(path: str, option: str, content: bytes) -> None:
    if Path(path).is_dir():
        raise UsageError(f"{option} {path}: this is a folder; name a file")
    try:
        replace_file(Path(path), content)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from None
