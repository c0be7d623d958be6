"""Prompts: one from the command line, or a file with many, as lines of text or of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError, shown, similar_path

_JSON_NAMES = (".json", ".jsonl", ".ndjson")
_WANTED = 'write {"prompt": "some text"} or {"ids": [15496, 11]}, and what else you like as "id"'


@dataclass(frozen=True)
class Prompt:
    """Hold what a text begins with: ``text``, or the ``ids`` of its tokens; ``id`` is the user's name for it.

    ``where``: how messages call it.
    """

    text: Optional[str]
    ids: Optional[List[int]] = None
    id: Any = None
    where: str = "--prompt"


def read_prompts(path: Path) -> List[Prompt]:
    """Return the prompts of a file: each line that is not blank, as it is; or JSON lines, by the name of the file
    (.jsonl) or by what its first line is.

    Raises ``UsageError`` for a file that cannot be read, is no UTF-8 text, or has another thing than prompts in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror or error}{similar_path(path)}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"--input {path}: it is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    if "\0" in text:
        raise UsageError(f"--input {path}: it is no text (a zero byte at {text.index(chr(0))}): give lines of text")
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UsageError(f"--input {path}: it has no prompts: give one a line")
    if path.suffix.lower() in _JSON_NAMES or _is_prompt_in_json(lines[0][1]):
        return [_from_json(line, f"--input {path}, line {number}") for number, line in lines]
    return [Prompt(line, where=f"--input {path}, line {number}") for number, line in lines]


def _is_prompt_in_json(line: str) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not {"prompt", "ids"}.isdisjoint(value)


def _from_json(line: str, where: str) -> Prompt:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: it is no JSON ({error}): {_WANTED}") from None
    if not isinstance(value, dict) or ("prompt" in value) == ("ids" in value):
        raise UsageError(f"{where}: it is no object with either a prompt or ids: {_WANTED}")
    if "prompt" in value:
        if not isinstance(value["prompt"], str):
            raise UsageError(f"{where}: 'prompt' must be a text, not {shown(value['prompt'])}")
        return Prompt(whole(value["prompt"]), None, value.get("id"), where)
    ids = value["ids"]
    if not isinstance(ids, list) or not ids or not all(type(one) is int for one in ids):
        raise UsageError(f"{where}: 'ids' must be a list of whole numbers, one at least, not {shown(ids)}")
    return Prompt(None, ids, value.get("id"), where)
