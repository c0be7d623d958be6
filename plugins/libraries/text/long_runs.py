"""Text as a vocabulary can be trained on it."""

from __future__ import annotations

import re

_LONG_RUN = re.compile(r"\S{1000}(?=\S)")


def without_long_runs(text: str) -> str:
    """Return ``text`` with spaces in runs of characters that are far too long for a word: training takes the square of
    their length.
    """
    return _LONG_RUN.sub(r"\g<0> ", text)
