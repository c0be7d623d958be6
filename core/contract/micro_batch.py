"""The type of ``--micro_batch``: a number of samples, or the word ``auto``."""

from __future__ import annotations

from typing import Any

#: The value that asks for the most samples that fit.
AUTO = "auto"


class MicroBatchSize:
    """Say what ``--micro_batch`` may be."""

    wanted = f"a whole number of at least 1, or '{AUTO}'"
    #: Its values in YAML, as a JSON schema.
    schema = {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": [AUTO]}]}

    @staticmethod
    def convert(value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() == AUTO:
            return AUTO
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return None
        text = str(value).strip()
        return int(text) if text.isascii() and text.isdecimal() and int(text) >= 1 else None
