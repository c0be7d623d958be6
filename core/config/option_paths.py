"""Paths in options: what to say of one that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

from pipeloom.core.base.errors import similar_path
from pipeloom.core.contract.options import WEIGHTED


def named_paths(config: Any) -> Iterator[Tuple[str, str]]:
    """The paths that options of ``config`` name, each with the name of its option."""
    for name, option in config.declared.items():
        value = getattr(config, name)
        if not option.path or not isinstance(value, str):
            continue
        yield name, value
        if option.path == WEIGHTED:
            for piece in value.split(","):
                yield name, piece
                yield name, piece.rpartition(":")[0]


def unusable_path(error: BaseException, config: Any) -> Optional[str]:
    """What to tell the user of an ``OSError`` about a path that one of the options names; ``None`` for other errors."""
    file = getattr(error, "filename", None)
    if not isinstance(error, OSError) or not isinstance(file, (str, Path)):
        return None
    for name, path in named_paths(config):
        if path and str(file) in (path, str(Path(path))):
            return f"--{name} {file}: {error.strerror or error}{similar_path(Path(path))}"
    return None


def with_similar_path(message: str, config: Any) -> str:
    """``message`` with a suggestion, where it is about a path of an option that is not there and nearly right."""
    if "did you mean" in message:
        return message
    for _, path in named_paths(config):
        if path and path in message:
            similar = similar_path(Path(path))
            if similar:
                return message + similar
    return message
