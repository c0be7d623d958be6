"""Messages name an option as a flag; for one that the user gave elsewhere, or by another name, this adds where."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.config.option_paths import with_similar_path


@contextmanager
def origins_in_errors(config: Any) -> Iterator[None]:
    """Add to an error that names options of ``config`` where they come from, and to one about a missing path of theirs
    what it may have meant."""
    try:
        yield
    except PipeloomError as error:
        message = with_similar_path(str(error), config)
        error.args = (with_origins(message, config.origins),)
        raise


def with_origins(message: str, origins: Mapping[str, str]) -> str:
    """``message`` for a user who has given options otherwise than as ``--name``.

    ``origins``: option -> another flag that stands for it (``--checkpoint``), or what it was taken from (``--config
    run.yaml``).
    """
    elsewhere: Dict[str, List[str]] = {}
    for name in dict.fromkeys(re.findall(r"--(\w+)", message)):
        origin = origins.get(name)
        if origin is None:
            continue
        if re.fullmatch(r"--\w+", origin) and origin != "--set":
            message = re.sub(rf"--{name}\b", origin, message)
        else:
            elsewhere.setdefault(origin, []).append(f"--{name}")
    listed = "; ".join(
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} from {origin}"
        for origin, names in elsewhere.items()
    )
    return f"{message} ({listed})" if listed else message
