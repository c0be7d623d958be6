"""Files of text that are read whole: what they are made of, and JSON values one behind the other in them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, similar_path


def _zstd(data: bytes) -> bytes:
    from backports import zstd  # an extra of pipeloom

    return zstd.decompress(data)


_COMPRESSED: Sequence[Tuple[bytes, Callable[[bytes], bytes]]] = (
    (b"BZh", bz2.decompress),
    (b"\x1f\x8b", gzip.decompress),
    (b"\xfd7zXZ\x00", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
#: What stands between JSON values; a byte-order mark too, wherever files were put together.
BLANK = " \t\r\n\ufeff"
#: What a file begins with that is no text.
_BINARY = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"PK\x03\x04", "zip"),
    (b"SQLite", "SQLite"),
)

#: What values of JSON are called, by their types in Python.
KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """Say what a value of JSON is called."""
    return KINDS[type(value)]


def read_text(path: Path, advice: str) -> str:
    """Return the content of a file, decompressed by what it begins with, without a byte-order mark.

    Raises ``UsageError``, which ends in ``advice``, for what is no text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no file {path}{similar_path(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    decompress = next((decompress for magic, decompress in _COMPRESSED if data.startswith(magic)), None)
    if decompress is not None:
        try:
            data = decompress(data)
        except ImportError:
            raise UsageError(
                f"{path} is compressed by zstd, which needs the package backports.zstd: pip install "
                "backports.zstd (Python 3.9 or newer), or unpack the file"
            ) from None
        except Exception as error:  # each library has its own
            raise UsageError(f"{path} cannot be decompressed ({error}); copy it again") from None
    kind = next((kind for magic, kind in _BINARY if data.startswith(magic)), None)
    if kind is not None:
        raise UsageError(f"{path} is not UTF-8 text but a {kind} file; {advice}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        utf_16 = " but UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UsageError(f"{path} is not UTF-8 text{utf_16}; save it as UTF-8, or {advice}") from None
    if not text.strip():
        raise UsageError(f"{path} is empty; {advice}")
    return text


def json_values(path: Path, text: str, advice: str) -> Iterator[Tuple[str, Any]]:
    """Yield the JSON values of a text, one after another, each with its place: the line that it begins in, "" if alone.

    Raises ``UsageError``, which names ``path`` and may end in ``advice``.
    """
    decoder = json.JSONDecoder()
    begin, line, end = 0, 1, 0
    position = _skip_blank(text, 0)
    while position < len(text):
        line += text.count("\n", begin, position)
        begin = position
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError as error:
            raise UsageError(f"{path} is not JSON ({error}); {advice}") from None
        except ValueError as error:
            raise UsageError(_not_json(path, text, error, advice if end == 0 else None)) from None
        position = _skip_blank(text, end)
        alone = position == len(text) and not text[:begin].strip(BLANK)
        yield "" if alone else f"line {line}", value


def _skip_blank(text: str, position: int) -> int:
    """The first place from ``position`` on with something on it."""
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position


def _not_json(path: Path, text: str, error: ValueError, advice: Optional[str]) -> str:
    what, place = getattr(error, "msg", str(error)), getattr(error, "pos", 0)
    if not text[place:].strip() or what.startswith("Unterminated string"):
        return f"{path} is not JSON: it ends in the middle ({what}); copy it again"
    line = text.count("\n", 0, place) + 1
    if advice is not None:
        return f"{path} is not JSON ({what} in line {line}); {advice}"
    return f"{path}: line {line} is not JSON ({what}); in JSON lines each line is an object of its own"
