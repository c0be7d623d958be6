"""A picture of what runs when, as SVG, readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple
from xml.sax.saxutils import escape

_COLOURS = {"forward": "#2a9d8f", "backward": "#e9a03b", "after": "#8d6cc4"}
_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 150, 760, 26, 8, 64
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.in{fill:#10151a;text-anchor:middle}.title{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.in{fill:#10151a}}"
)


@dataclass(frozen=True)
class Row:
    """``spans``: kind, what is written in it, begin, end."""

    name: str
    spans: Sequence[Tuple[str, str, float, float]]


def gantt_picture(title: str, rows: Sequence[Row], length: float) -> str:
    """Return an SVG of ``rows`` on one axis from 0 to ``length``, or further where a span ends later."""
    length = max([length, *(end for row in rows for *_, end in row.spans)])
    scale = _WIDTH / length
    lines: List[str] = [f'<text class="title" x="8" y="22">{escape(title)}</text>']
    for number, (name, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + 110 * number
        lines.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 18}" y="44">{escape("update" if name == "after" else name)}</text>')
    y = _TOP
    for row in rows:
        lines.append(f'<text x="8" y="{y + 17}">{escape(row.name)}</text>')
        for kind, label, begin, end in row.spans:
            x, wide = _LEFT + begin * scale, (end - begin) * scale
            lines.append(
                f'<rect x="{x:.1f}" y="{y}" width="{max(wide, 0.5):.1f}" height="{_HEIGHT}" fill="{_COLOURS[kind]}" '
                f'fill-opacity="0.85" stroke="#57606a" stroke-width="0.5"/>'
            )
            if label and wide > 18:
                lines.append(f'<text class="in" x="{x + wide / 2:.1f}" y="{y + 17}">{escape(label)}</text>')
        y += _HEIGHT + _GAP
    for part in range(5):
        x = _LEFT + _WIDTH * part / 4
        lines.append(f'<line x1="{x}" y1="{_TOP - 4}" x2="{x}" y2="{y}" stroke="#8c959f" stroke-dasharray="2 4"/>')
        lines.append(f'<text x="{x}" y="{y + 14}" text-anchor="middle">{length * part / 4:.0f}</text>')
    width, height = _LEFT + _WIDTH + 40, y + 24
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )
