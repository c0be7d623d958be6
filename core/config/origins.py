"""Messages name an option as a flag; where the user has said it elsewhere, or under another name, they say so."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping

from pipeloom.core.base.errors import PipeloomError


@contextmanager
def telling_origins(config: Any) -> Iterator[None]:
    """While this lasts, an error that names options of ``config`` tells where they come from."""
    try:
        yield
    except PipeloomError as error:
        error.args = (with_origins(str(error), config.origins),)
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
    told = "; ".join(
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} from {origin}"
        for origin, names in elsewhere.items()
    )
    return f"{message} ({told})" if told else message
