"""A picture of horizontal bars as SVG, readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple
from xml.sax.saxutils import escape

#: Colours of the parts of a bar, by their order: told apart without colour vision and in print.
_COLOURS = ("#2a9d8f", "#e9a03b", "#8d6cc4", "#d1495b")
_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 190, 420, 22, 6, 64
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.axis{stroke:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)


@dataclass(frozen=True)
class Bar:
    """``group``: said left of the first bar of a group, empty for the others; ``parts``: name and length of each."""

    group: str
    name: str
    parts: Sequence[Tuple[str, float]]

    @property
    def whole(self) -> float:
        return sum(length for _, length in self.parts)


def bar_picture(title: str, bars: Sequence[Bar], unit: str) -> str:
    """Return an SVG of ``bars`` with the length of each written at its end."""
    scale = _WIDTH / max(bar.whole for bar in bars)
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    colours = dict(zip(names, _COLOURS))
    lines: List[str] = [f'<text class="title" x="8" y="22">{escape(title)}</text>']
    for number, name in enumerate(names):
        x = _LEFT + 110 * number
        lines.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colours[name]}"/>')
        lines.append(f'<text x="{x + 18}" y="45">{escape(name)}</text>')
    y = _TOP
    for number, bar in enumerate(bars):
        y += 12 if bar.group and number else 0
        base = y + 16
        lines.append(f'<text x="8" y="{base}">{escape(bar.group)}</text>')
        lines.append(f'<text x="{_LEFT - 8}" y="{base}" text-anchor="end">{escape(bar.name)}</text>')
        x = float(_LEFT)
        for name, length in bar.parts:
            wide = length * scale
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_HEIGHT}" fill="{colours[name]}"/>')
            x += wide
        lines.append(f'<text x="{x + 6:.1f}" y="{base}">{bar.whole:.2f} {escape(unit)}</text>')
        y += _HEIGHT + _GAP
    lines.append(f'<line class="axis" x1="{_LEFT}" y1="{_TOP - 6}" x2="{_LEFT}" y2="{y}" stroke="#8c959f"/>')
    width, height = _LEFT + _WIDTH + 90, y + 10
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )
