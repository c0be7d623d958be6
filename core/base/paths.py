"""Paths as users write them."""

from __future__ import annotations

import os
import re

from pipeloom.core.base.errors import UsageError


def expand_home(text: str) -> str:
    """Replace ``~`` and ``~user`` at the beginning of ``text`` by the home directory. Raises ``UsageError`` for an
    unknown user."""
    expanded = os.path.expanduser(text)
    if expanded == text and text.startswith("~"):
        name = text.partition("/")[0]
        raise UsageError(f"{name}: there is no such user here, so it stands for no folder")
    return expanded


def expand_homes(text: str) -> str:
    """As ``expand_home``, for each path of a list such as ``~/a:0.7,~/b:0.3``."""
    if os.path.exists(text):
        return text
    return re.sub(r"(^|,)(~[^/,]*)", lambda match: match.group(1) + expand_home(match.group(2)), text)
