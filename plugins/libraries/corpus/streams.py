"""Input files as streams of text: plain, bz2, gzip, xz or zstd, in memory that does not grow with the file."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, List, Tuple

from pipeloom.core.base.errors import RunError, UsageError

_PIECE = 256 * 1024


def _zstd(file: Any) -> Any:
    """Raises ``ImportError`` where the library is not installed."""
    from backports import zstd  # the standard library of Python 3.14 for older ones; an extra of pipeloom

    # Public sets (Reddit, The Pile) are packed with windows of up to 2 GiB; one of that size takes as much memory.
    return zstd.ZstdFile(file, options={zstd.DecompressionParameter.window_log_max: 31})


_COMPRESSED: Tuple[Tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"BZh", bz2.BZ2File),
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
#: What "surrogateescape" makes of a byte that is no UTF-8.
_ESCAPED = re.compile("[\udc80-\udcff]+")


class BadInput(RunError):
    """An input file cannot be read to its end; what came before was whole. ``what`` is the line without the advice."""

    def __init__(self, what: str, advice: str = "get it whole, or take what there is with --bad_input skip") -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what


def _cut(line: str, longest: int) -> List[str]:
    return [line[start : start + longest] for start in range(0, len(line) or 1, longest)]


class InputStream:
    """The content of one file, decompressed by what it begins with (not by its name).

    All ends of lines come as ``\\n``. ``replaced`` counts the places where the content is no UTF-8, and U+FFFD stands
    in the text; ``nuls`` the NUL characters, which are left out (a crash leaves blocks of them at the end of a file).
    Raises ``UsageError`` where the file cannot be opened, :class:`BadInput` where it breaks off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replaced = self.nuls = 0
        try:
            self._raw: BinaryIO = open(path, "rb")
            magic = self._raw.read(6)
            self._raw.seek(0)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
        opener = next((opener for prefix, opener in _COMPRESSED if magic.startswith(prefix)), None)
        try:
            self._content = opener(self._raw) if opener else self._raw
        except ImportError:
            self._raw.close()
            raise UsageError(
                f"{path} is compressed by zstd, which needs the package backports.zstd: "
                "pip install backports.zstd (Python 3.9 or newer), or unpack the file"
            ) from None

    @property
    def bytes_read(self) -> int:
        """How far the reading came in the file as it lies on the disk."""
        return self._raw.tell()

    def head(self, size: int = 4096) -> bytes:
        """The first bytes of the content. To be asked for before anything else is read."""
        with self._unbroken():
            head = self._content.read(size)
            self._content.seek(0)
            return head

    def pieces(self) -> Iterator[str]:
        """The content as text, some hundred kilobytes at a time."""
        decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape"), translate=True
        )
        data = None
        while data != b"":
            with self._unbroken():
                data = self._content.read(_PIECE)
            text, count = _ESCAPED.subn("\ufffd", decoder.decode(data, final=not data))
            self.replaced += count
            if "\0" in text:
                self.nuls += text.count("\0")
                text = text.replace("\0", "")
            if text:
                yield text

    def lines(self, longest: int) -> Iterator[str]:
        """The content line by line, without their ends; a line of more than ``longest`` characters comes in several
        pieces.
        """
        rest = ""
        for text in self.pieces():
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                yield from _cut(line, longest)
            if len(rest) > longest:
                *pieces, rest = _cut(rest, longest)
                yield from pieces
        if rest:
            yield rest

    def close(self) -> None:
        self._content.close()
        self._raw.close()

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except EOFError:
            raise BadInput(f"{self.path}: the file ends inside its compressed data") from None
        except Exception as error:
            if not isinstance(error, (OSError, lzma.LZMAError, zlib.error)) and type(error).__name__ != "ZstdError":
                raise
            raise BadInput(f"{self.path}: cannot be read further ({error})") from error
