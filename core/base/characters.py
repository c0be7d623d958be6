"""Characters that are none."""

from __future__ import annotations

import re

_HALVES = re.compile("[\ud800-\udfff]")


def whole(text: str) -> str:
    """``text`` with U+FFFD for each half of a character.

    JSON and HTML can name halves, and Python puts them for bytes that are no text of the console's encoding. No
    tokenizer takes them, and no encoding has them. Offsets stay what they are.
    """
    return text if text.isascii() else _HALVES.sub("\ufffd", text)
