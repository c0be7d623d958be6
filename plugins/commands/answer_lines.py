"""What commands answer, as a file of lines."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.output import ESCAPE


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write ``lines`` in the place of what may be at ``path``, or into it where it is no file. Raises ``RunError``."""
    from pipeloom.core.base.files import replace_file

    content = ("\n".join(lines) + "\n").encode("utf-8", ESCAPE)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a device or a pipe, which must not be replaced by a file
        else:
            replace_file(path.resolve(), content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
