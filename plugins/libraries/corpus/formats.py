"""What an input file is, told by what it begins with: a kind that is read here, or one line that says what it is and
what to do."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError

#: Bytes of the content that are looked at.
HEAD_BYTES = 64 * 1024
#: The kinds that are read.
DUMP, EXTRACTED, JSON, GUTENBERG, TEXT = "MediaWiki dump", "WikiExtractor", "JSON", "Project Gutenberg", "text"

_TAKEN = (
    "give a MediaWiki dump, WikiExtractor's output, JSON lines or plain text, perhaps compressed by bz2, gzip, "
    "xz or zstd"
)
_UNPACK = "unpack it, and give the files in it"

# Where in the file, what stands there, what that is, what to do.
_MAGIC: Sequence[Tuple[int, bytes, str, str]] = (
    (0, b"%PDF-", "a PDF file", "extract its text, for instance with pdftotext"),
    (0, b"%!PS", "a PostScript file", "extract its text, for instance with ps2txt"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", _TAKEN),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    *(
        (0, magic, "compressed twice", "unpack it once")
        for magic in (b"BZh", b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
    ),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK),
    (0, b"\x1f\x9d", "a file of 'compress' (.Z)", _UNPACK),
    (0, b"LZIP", "an lzip file", _UNPACK),
    (0, b"PAR1", "a Parquet file", "write its text column as JSON lines"),
    (0, b"ARROW1", "an Arrow file", "write its text column as JSON lines"),
    (0, b"ORC", "an ORC file", "write its text column as JSON lines"),
    (0, b"Obj\x01", "an Avro file", "write its text field as JSON lines"),
    (0, b"SQLite format 3\0", "an SQLite database", "write its text as JSON lines"),
    (0, b"\x89HDF", "an HDF5 file", "write its text as JSON lines"),
    (0, b"\x93NUMPY", "a NumPy array", _TAKEN),
    (0, b"\x80\x04\x95", "a pickle", _TAKEN),
    (0, b"\xd0\xcf\x11\xe0", "a file of an old Microsoft Office (.doc, .xls)", "save it as plain text"),
    (0, b"{\\rtf", "an RTF file", "save it as plain text"),
    (0, b"\x7fELF", "a program (ELF)", _TAKEN),
    (0, b"MZ\x90\0", "a Windows program", _TAKEN),
    (0, b"\x89PNG", "a picture (PNG)", _TAKEN),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", _TAKEN),
    (0, b"GIF8", "a picture (GIF)", _TAKEN),
    (0, b"ID3", "a sound file (MP3)", _TAKEN),
    (0, b"OggS", "a sound file (Ogg)", _TAKEN),
    (0, b"RIFF", "a RIFF file (sound or picture)", _TAKEN),
)
# Of zip archives what their first entries say.
_ZIPPED = (
    (b"mimetypeapplication/epub+zip", "an EPUB book"),
    (b"mimetypeapplication/vnd.oasis", "an OpenDocument file"),
    (b"word/", "a Word document (docx)"),
    (b"xl/", "an Excel sheet (xlsx)"),
    (b"ppt/", "a PowerPoint file (pptx)"),
)
_UTF = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Of so many bytes one may be NUL: more of them are no damage, but another format.
_NUL_SHARE = 0.01
_PRINTED = set(range(32, 256)) | set(b"\t\n\r\f\b\x1b")


class NoText(UsageError):
    """A file is none that documents can be read from; ``what`` it is instead."""

    def __init__(self, path: Path, what: str, advice: str = _TAKEN) -> None:
        super().__init__(f"{path} is no UTF-8 text, it is {what}; {advice}")
        self.what = what


class Structured(NoText):
    """A file is text whose markup, names or numbers would be taken for words."""

    def __init__(self, path: Path, what: str, advice: str) -> None:
        UsageError.__init__(self, f"{path} is {what}, not plain text; {advice}")
        self.what = what


def kind_of(path: Path, head: bytes, repair: bool = False) -> str:
    """One of the kinds above for a file whose content begins with ``head`` (up to ``HEAD_BYTES``).

    Raises :class:`NoText` for what no documents can be read from. With ``repair`` bytes that are no UTF-8 are no reason
    for that.
    """
    _check_bytes(path, head, repair)
    text = (
        codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        .decode(head)
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
    start = text.replace("\0", "").lstrip("\ufeff \t\n\f")
    if start.startswith("<"):
        return _markup(path, start)
    if _is_json(start):
        return JSON
    lines = _lines(start)
    if sum(bool(_OBJECT.match(line)) for line in lines) > len(lines) / 2:
        return JSON  # of which the first lines are damaged
    for found, what, advice in _STRUCTURED:
        if found(start, path):
            raise Structured(path, what, advice)
    return GUTENBERG if GUTENBERG_START.search(text) else TEXT


def _check_bytes(path: Path, head: bytes, repair: bool) -> None:
    for place, magic, what, advice in _MAGIC:
        # A text may begin with the letters ORC.
        if head[place : place + len(magic)] == magic and (not magic.isalnum() or not _is_text(head)):
            if magic.startswith(b"PK"):
                what = next((name for mark, name in _ZIPPED if mark in head), what)
                advice = _UNPACK if what == "a zip archive" else "save it as plain text"
            raise NoText(path, what, advice)
    if not any(head):
        if head:
            raise NoText(path, "a file of NUL bytes (perhaps a download that was not finished)", "get it again")
        return
    for mark, name in _UTF:
        if head.startswith(mark):
            raise NoText(path, name, f"convert it: iconv -f {name} -t UTF-8")
    if head.rstrip(b"\0").count(0) > _NUL_SHARE * len(head):
        halves = [head[0::2].count(0), head[1::2].count(0)]
        if max(halves) > 0.6 * len(head) / 2 and min(halves) < 0.1 * len(head) / 2:
            raise NoText(
                path, "UTF-16", f"convert it: iconv -f UTF-16{'LE' if halves[1] > halves[0] else 'BE'} -t UTF-8"
            )
        raise NoText(path, "binary data")
    if sum(byte not in _PRINTED and byte != 0 for byte in head) > 0.1 * len(head):
        raise NoText(path, "binary data")
    text = _decoded(head)
    wrong = len(_WRONG.findall(text))
    # A text that is damaged here and there has whole characters too.
    whole = sum(character > "\x7f" for character in _WRONG.sub("", text))
    if not repair and (wrong > 3 * whole or wrong > max(20, whole / 5)):
        raise NoText(
            path,
            "another encoding (Latin-1, Windows-1252 or the like)",
            "convert it: iconv -f WINDOWS-1252 -t UTF-8, or --bad_input skip puts U+FFFD where the bytes are no UTF-8",
        )


_WRONG = re.compile("[\udc80-\udcff]+")


def _decoded(head: bytes) -> str:
    """What is no UTF-8 comes as surrogates; a character may be cut where the head ends."""
    return codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head, final=len(head) < HEAD_BYTES)


def _is_text(head: bytes) -> bool:
    return 0 not in head and not _WRONG.search(_decoded(head))


_PROLOGUE = re.compile(r"(?:\s*(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE(?:[^\[>]|\[.*?\])*>))*\s*", re.S | re.I)
_ROOT = re.compile(r"<([A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)(?=[\s/>])")
EXTRACTED_START = re.compile(r'<doc id="[^"]*"[^\n]*>\s*$')
_HTML = frozenset(
    "html head body title meta link p div span a br b i em strong h1 h2 h3 ul ol li table tr td article section main "
    "header footer script style img font center blockquote pre nav form".split()
)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")


def _markup(path: Path, start: str) -> str:
    """The kind of a file whose text starts with ``<``."""
    if EXTRACTED_START.match(start.partition("\n")[0]):
        return EXTRACTED
    begin = _PROLOGUE.match(start).end()  # type: ignore[union-attr]  # it matches nothing too
    root = _ROOT.match(start, begin)
    name = root[2].lower() if root else ""
    declared = start[:5] == "<?xml"
    if name == "mediawiki" or declared and not root and begin >= len(start.rstrip()):
        return DUMP
    if start[:9].lower() == "<!doctype" and "html" in start[:100].lower() or name in _HTML:
        raise Structured(path, "an HTML page", "extract its text first, for instance with trafilatura or html2text")
    if declared:
        # One whose root is not well-formed is a dump that the reader says more of.
        if root is None or "<mediawiki" in start:
            return DUMP
        raise Structured(
            path, f"XML with the root <{root[0][1:]}>, no MediaWiki dump", "write its text as JSON lines or plain text"
        )
    if root and len(_TAG.findall(start)) >= max(2, 0.3 * (start.count("\n") + 1)):
        raise Structured(
            path,
            f"markup that begins with <{root[0][1:]}>, no MediaWiki dump",
            "write its text as JSON lines or plain text",
        )
    return TEXT


def _is_json(start: str) -> bool:
    """Objects, or arrays of objects, strings or arrays; text may begin with a brace or a bracket too."""
    return bool(re.match(r"""\{\s*(?:["'}]|$)|\[\s*(?:[{"]|\]\s|\]$|\[\s*")""", start))


_OBJECT = re.compile(r"\{\s*\"[^\"]{1,80}\"\s*:.*\}\s*$")
GUTENBERG_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG|^\*END\*? ?THE SMALL PRINT", re.M)
GUTENBERG_END = re.compile(r"\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg's? ")


def _matches(pattern: str, flags: int = re.M, least: int = 1) -> Callable[[str, Path], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text, path: len(compiled.findall(text)) >= least


def _lines(text: str) -> List[str]:
    """The whole lines of the head, without empty ones; not more than 100."""
    lines = text.split("\n")
    return [line for line in (lines[:-1] if len(text) > HEAD_BYTES // 4 else lines)[:100] if line.strip()]


_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]*$")
_NAME = re.compile(r"[A-Za-z_][\w .#()-]{0,40}$")


def _is_table(text: str, path: Path) -> bool:
    """Comma- or tab-separated values: the same number of fields everywhere, below a line of names or with tabs
    between."""
    lines = _lines(text)
    named = any(suffix.lower() in (".csv", ".tsv", ".tab") for suffix in path.suffixes)
    for delimiter in "\t,;|":
        rows = _rows(lines, delimiter)
        if rows and len(rows[0]) == 1 and named and _IDENTIFIER.match(rows[0][0]):
            return True  # one column, below its name
        if not rows or len(rows[0]) < 2:
            continue
        same = sum(len(row) == len(rows[0]) for row in rows) >= 0.9 * len(rows)
        names = [field.strip() for field in rows[0]]
        header = len(set(names)) == len(names) and all(_NAME.match(name) and len(name.split()) <= 4 for name in names)
        simple = header and all(" " not in name for name in names)
        if same and (
            delimiter == "\t"
            and len(rows) >= 4
            or named
            and len(rows) >= 2
            or simple
            and len(rows) >= 3
            or header
            and len(rows) >= 6
        ):
            return True
    return False


def _rows(lines: Sequence[str], delimiter: str) -> Optional[List[List[str]]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return None


# What is text of another kind than prose: how it is known, what it is, what to do.
_AS_LINES = "write its text as JSON lines or plain text"
_STRUCTURED: Sequence[Tuple[Callable[[str, Path], bool], str, str]] = (
    (
        _matches(r"\Aversion https://git-lfs\.github\.com/spec"),
        "a pointer of Git LFS, not the file itself",
        "get the file: git lfs pull",
    ),
    (
        _matches(r"^(?:INSERT INTO|CREATE TABLE|DROP TABLE|COPY \S+ .*FROM stdin)\b", re.M | re.I),
        "an SQL dump",
        _AS_LINES,
    ),
    (_matches(r"\A\s*WEBVTT\b"), "subtitles (WebVTT)", _AS_LINES),
    (_matches(r"\A\s*\[Script Info\]"), "subtitles (ASS)", _AS_LINES),
    (_matches(r"\A\s*\d+\n\d\d:\d\d:\d\d[,.]\d{3} --> "), "subtitles (SubRip)", _AS_LINES),
    (
        _matches(
            r"\A\s*(?:From \S+.*\n)?(?:[A-Z][\w-]*: .*\n(?:[ \t].*\n)*){2}[\s\S]*?"
            r"^(?:Subject|Message-ID|MIME-Version|Received): "
        ),
        "e-mail",
        _AS_LINES,
    ),
    (
        _matches(r"^\s*\\(?:documentclass|documentstyle|begin\{document\})"),
        "LaTeX source",
        "convert it, for instance with pandoc -t plain",
    ),
    (lambda text, path: _all_match(r"\d+:\d+:.+", text), "the index of a multistream dump", "give the dump itself"),
    (_is_table, "a table of comma- or tab-separated values", "write its column of text as JSON lines"),
)


def _all_match(pattern: str, text: str) -> bool:
    lines = _lines(text)
    return len(lines) >= 2 and all(re.fullmatch(pattern, line) for line in lines)
