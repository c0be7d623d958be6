"""The pages name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
#: Folders whose names begin the paths that are checked.
FOLDERS = "core|plugins|pipeloom|tests|docs|benchmarks|examples|scripts"


def missing(page):
    """The links and the names of files in a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    links = [page.parent / target.replace("\\", "") for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    named = [ROOT / name for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)]
    return [str(path) for path in links + named if not path.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    assert missing(page) == []


def test_a_wrong_name_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](no.md) [b](page.md#start) `core/nothing.py` `core/base/files.py` [c](https://x.y/z)")
    assert missing(page) == [str(tmp_path / "no.md"), str(ROOT / "core/nothing.py")]
