"""What in text looks like markup: said once for each file, with a line of it, and counted."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, Tuple

# By name a pattern that a line has, and how much of a file's lines must have it before it is said.
_KINDS = {
    # Known names, ends, attributes: a text may speak of <stdin>.
    "HTML": (
        r"</[A-Za-z][\w:-]*\s*>|<[A-Za-z][\w:-]*\s+[\w:-]+=[^<>]{0,300}>|<(?:p|br|b|i|u|em|strong|div|span|li|ul|"
        r"ol|h[1-6]|t[rdh]|table|ref|small|sub|sup|hr|html|head|body|script|style|nowiki|code|pre|blockquote|"
        r"center|font)\s*/?>",
        0.0,
    ),
    "entities": (r"&(?:[A-Za-z]{2,8}\d{0,2}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});", 0.0),
    "wikitext": (r"\[\[[^\[\]]{1,200}\]\]|\{\{[^{}]{1,200}\}\}|'''|^={2,6}[^=]+={2,6}$|^\{\||-\{[^{}]{0,200}\}-", 0.0),
    "JSON": (r'^\{"[^"]{1,80}"\s*:', 0.0),
    "Markdown": (r"\]\(https?://|^#{1,6} \S|^```|\*\*\S[^*]{0,80}\*\*", 0.02),
    "LaTeX": (r"\\(?:begin|end|section|cite|ref|textbf|emph|item)\b", 0.0),
    "code": (
        r"^\s*(?:def|class|if|elif|else|for|while|try|except|with)\b.*:$|^\s*return\b|^\s*[\w.\[\]\"']+ [+-]?= \S|"
        r"[{}]$|[)\]\w]\(.*\);$|= .*;$|^\s*#include\b|^\s*//",
        0.3,
    ),
}
_SHOWN = {"HTML": "HTML or XML tags", "entities": "entities of HTML", "code": "source code"}
_PATTERN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, (pattern, _) in _KINDS.items()))
_SIGN = re.compile(r"[<&\[{}=\\#`*/]")
_MARKED = "lines with markup, kept as they are"
_FILES = "files with markup in them"
#: So many files are said one by one.
_SAID = 10
_SAMPLE = 80


class MarkupWatch:
    """Looks at the lines of one file; ``finish`` says what it found, with the first line of that kind, and counts
    it."""

    def __init__(self, path: Path, counts: Counter) -> None:
        self._path, self._counts = path, counts
        self._lines = self._filled = 0
        self._found: Counter = Counter()
        self._first: Dict[str, Tuple[int, str]] = {}

    def look(self, text: str) -> None:
        for line in text.split("\n"):
            self._lines += 1
            self._filled += bool(line)
            match = _PATTERN.search(line) if _may_have_any(line) else None
            if match is not None:
                kind = match.lastgroup or ""
                self._found[kind] += 1
                if kind not in self._first:
                    start = max(0, match.start() - _SAMPLE // 2)
                    self._first[kind] = (self._lines, line[start : start + _SAMPLE].strip())

    def finish(self) -> None:
        found = Counter({kind: count for kind, count in self._found.items() if count >= _KINDS[kind][1] * self._filled})
        if not found:
            return
        self._counts[_MARKED] += sum(found.values())
        self._counts[_FILES] += 1
        if self._counts[_FILES] > _SAID:
            return
        kind = found.most_common(1)[0][0]
        number, line = self._first[kind]
        kinds = ", ".join(_SHOWN.get(kind, kind) for kind in found)
        warn(
            f"{self._path}: {sum(found.values()):,} of {self._lines:,} lines of text look like markup ({kinds}), "
            f"for instance line {number}: {line}; they are kept as they are"
        )
        if self._counts[_FILES] == _SAID:
            warn("more files with markup are counted and no longer named")


def _may_have_any(line: str) -> bool:
    """Quickly, whether one of the patterns can be in a line at all; most lines of prose have none of these signs."""
    return _SIGN.search(line) is not None or line[-1:] in (":", ";") or "'''" in line or "return" in line


def warn(line: str) -> None:
    """One line on the error output, whatever characters are in it."""
    print(
        "pipeloom: warning: " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line),
        file=sys.stderr,
        flush=True,
    )
