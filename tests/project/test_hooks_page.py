"""docs/hooks.md is what the contract says, and lists its changes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pipeloom.core.contract import hookspecs

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("hooks_page", ROOT / "scripts" / "hooks_page.py")
hooks_page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hooks_page)


def test_the_page_is_what_the_contract_says():
    """Signatures and texts of every hook; ``python scripts/hooks_page.py --write`` mends it."""
    written, marker, _ = hooks_page.PAGE.read_text(encoding="utf-8").partition(hooks_page.MARKER + "\n")
    assert marker and written + marker == hooks_page.page()


def test_every_hook_says_what_it_is_for():
    for name, hook in hooks_page.hooks().items():
        assert len((hook.__doc__ or "").split()) > 10, name


def test_the_list_of_changes_ends_with_this_version_and_names_hooks_that_are_there():
    changes = hooks_page.PAGE.read_text(encoding="utf-8").partition(hooks_page.MARKER)[2]
    versions = [int(number) for number in re.findall(r"^### Version (\d+)", changes, re.M)]
    assert versions == list(range(hookspecs.CONTRACT_VERSION, 0, -1))
    gone = {entry.hook for entry in hookspecs.DEPRECATIONS}
    named = {name for name in re.findall(r"`(pipeloom_\w+)\b", changes) if not name.endswith("_")}
    assert named <= {*hooks_page.hooks(), *gone}
