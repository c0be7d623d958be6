"""Where the cache of built data is."""

from __future__ import annotations

import os
from pathlib import Path

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import CACHE


def cache_root() -> Path:
    """Return the folder of the cache, which need not exist yet.

    It is ``$PIPELOOM_CACHE``, else ``$XDG_CACHE_HOME/pipeloom``, else ``~/.cache/pipeloom``. Raises ``UsageError``
    where there is no home folder for it.
    """
    chosen = os.environ.get(CACHE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "pipeloom"
    try:
        return Path.home() / ".cache" / "pipeloom"
    except RuntimeError:
        raise UsageError("there is no home folder for the cache; set PIPELOOM_CACHE to a folder") from None
