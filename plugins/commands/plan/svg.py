"""Drawings of a plan as SVG text: the placement, the timeline to scale, bars of memory."""

from __future__ import annotations

from html import escape
from typing import Any, Dict, List, Mapping, Sequence

from pipeloom.plugins.commands.plan.colours import PARTS, WORK, of_stage

_WIDTH, _LABEL, _ROW, _GAP = 960, 92, 34, 6
#: A step of more work than this is drawn by its beginning: what is narrower than a pixel says nothing.
_MOST_SPANS = 1200
#: Nodes of a large cluster that are drawn.
_MOST_NODES = 64
#: Spans wider than this have room for the number of their micro-batch.
_READABLE = 22


def draw_placement(content: Mapping[str, Any]) -> str:
    """Draw nodes as rows and their devices in the colours of the stages that they hold."""
    grid: Sequence[Sequence[int]] = content["placement"].get("grid", ())
    if not grid:
        return f"<p>{escape(content['placement']['summary'])}; the ranks are too many to be drawn.</p>"
    stages, shown = content["mesh"]["pipeline"], grid[:_MOST_NODES]
    cell = min(128.0, (_WIDTH - _LABEL) / max(map(len, grid)))
    parts, devices = [], len(grid[0])
    for node, row in enumerate(shown):
        top = node * (_ROW + _GAP)
        parts.append(f'<text x="0" y="{top + 22}" class="label">node {node}</text>')
        for place, stage in enumerate(row):
            left, rank = _LABEL + place * cell, node * devices + place
            title = f"rank {rank}: stage {stage}"
            parts.append(
                f'<g class="rank" data-rank="{rank}" data-stage="{stage}"><title>{title}</title>'
                f'<rect x="{left:.1f}" y="{top}" width="{cell - 4:.1f}" height="{_ROW}" rx="3" '
                f'fill="{of_stage(stage, stages)}"/>'
                + (f'<text x="{left + 8:.1f}" y="{top + 22}" class="on">{_short(rank, stage, cell)}</text>')
                + "</g>"
            )
    more = len(grid) - len(shown)
    note = f"<p>and {more} more nodes like these</p>" if more else ""
    return _svg(len(shown) * (_ROW + _GAP), parts, "placement of stages on ranks") + note


def _short(rank: int, stage: int, cell: float) -> str:
    if cell >= 100:
        return f"rank {rank}: stage {stage}"
    return f"{rank}·{stage}" if cell >= 44 else str(stage)


def draw_timeline(content: Mapping[str, Any]) -> str:
    """Draw what each stage does in a step, to scale; white is waiting."""
    spans = content["timeline"][:_MOST_SPANS]
    if not spans:
        return ""
    whole = len(spans) == len(content["timeline"])
    end = max(span[4] for span in spans)
    stages = max(span[0] for span in spans) + 1
    scale, parts = (_WIDTH - _LABEL) / end, []
    for stage in range(stages):
        top = stage * (_ROW + _GAP)
        parts.append(
            f'<text x="0" y="{top + 22}" class="label">stage {stage}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{_WIDTH - _LABEL}" height="{_ROW}" class="idle"/>'
        )
    for stage, what, micro_batch, begin, finish in spans:
        left, width, top = _LABEL + begin * scale, (finish - begin) * scale, stage * (_ROW + _GAP)
        number = "" if micro_batch < 0 else f" of micro-batch {micro_batch}"
        name = "exchange and update" if what == "after" else what
        title = f"stage {stage}: {name}{number}, {begin:.4g} to {finish:.4g} s"
        text = (
            f'<text x="{left + 4:.1f}" y="{top + 22}" class="on">{micro_batch}</text>'
            if width > 22 <= 22 + micro_batch
            else ""
        )
        parts.append(
            f'<g class="span" data-stage="{stage}"><title>{title}</title><rect x="{left:.2f}" y="{top}" '
            f'width="{max(width - 0.6, 0.4):.2f}" height="{_ROW}" fill="{WORK[what]}"/>{text}</g>'
        )
    height = stages * (_ROW + _GAP)
    for tick in range(5):
        left = _LABEL + (_WIDTH - _LABEL) * tick / 4
        anchor = "end" if tick == 4 else "start" if tick == 0 else "middle"
        parts.append(
            f'<text x="{left:.0f}" y="{height + 14}" class="tick" text-anchor="{anchor}">{end * tick / 4:.3g} s</text>'
        )
    note = "" if whole else f"<p>the first {end:.3g} s of a step are drawn</p>"
    return _svg(height + 20, parts, "timeline of a step") + note


def draw_memory(content: Mapping[str, Any]) -> str:
    """Draw what a rank of each stage holds, beside the room that there is."""
    rows: List[Dict[str, Any]] = content["stages"]
    names = part_names(content)
    most = max(content["memory"]["room"], *(row["memory"]["total"] for row in rows))
    scale, parts = (_WIDTH - _LABEL - 90) / most, []
    for row in rows:
        top, left = row["stage"] * (_ROW + _GAP), float(_LABEL)
        parts.append(f'<text x="0" y="{top + 22}" class="label">stage {row["stage"]}</text>')
        for number, name in enumerate(names):
            size = row["memory"]["parts"].get(name, 0.0)
            width = size * scale
            if width > 0.2:
                title = f"stage {row['stage']}: {escape(name)} {size / 1e9:.2f} GB"
                parts.append(
                    f'<g class="part"><title>{title}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}" '
                    f'height="{_ROW}" fill="{PARTS[number % len(PARTS)]}"/></g>'
                )
            left += width
        parts.append(
            f'<text x="{left + 6:.1f}" y="{top + 22}" class="label">{row["memory"]["total"] / 1e9:.2f} GB</text>'
        )
    height, edge = len(rows) * (_ROW + _GAP), _LABEL + content["memory"]["room"] * scale
    parts.append(
        f'<line x1="{edge:.1f}" x2="{edge:.1f}" y1="0" y2="{height}" class="room"/>'
        f'<text x="{edge - 4:.1f}" y="{height + 14}" class="tick" text-anchor="end">'
        f"room {content['memory']['room'] / 1e9:.1f} GB</text>"
    )
    return _svg(height + 20, parts, "memory of a rank of each stage")


def part_names(content: Mapping[str, Any]) -> List[str]:
    """Return the parts of memory, the largest first."""
    sums: Dict[str, float] = {}
    for row in content["stages"]:
        for name, size in row["memory"]["parts"].items():
            sums[name] = sums.get(name, 0.0) + size
    return sorted((name for name, size in sums.items() if size > 0), key=lambda name: -sums[name])


def draw_curve(points: Sequence[Sequence[float]], label: str) -> str:
    """Draw ``[x, y]`` points as a line."""
    height = 160
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    low, high = min(ys), max(ys)
    across, up = max(xs) - min(xs) or 1.0, high - low or 1.0
    path = " ".join(
        f"{_LABEL + (x - min(xs)) / across * (_WIDTH - _LABEL - 8):.1f},{8 + (high - y) / up * (height - 16):.1f}"
        for x, y in points
    )
    parts = [
        f'<polyline points="{path}" class="curve"/>',
        f'<text x="0" y="18" class="tick">{high:.4g}</text><text x="0" y="{height - 6}" class="tick">{low:.4g}</text>',
    ]
    return _svg(height, parts, label)


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )
