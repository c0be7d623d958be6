"""Data that lies beside the checkout, too big to be part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(path: str) -> Path:
    """``../shared/data/<path>`` beside the checkout; skips the test where it is absent."""
    found = _SHARED / path
    if not found.exists():
        pytest.skip(f"needs the data ../shared/data/{path} beside the checkout")
    return found
