"""The placement and the timeline of a plan as PNG, drawn by matplotlib (the extra ``pictures``)."""

from __future__ import annotations

import io
from typing import Any, Mapping

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.commands.plan.colours import WORK, of_stage

_INCHES, _DPI = 10.0, 110
#: More nodes, devices or spans than these are not told apart in a picture.
_MOST_NODES, _MOST_SPANS = 16, 1200


def picture_of(content: Mapping[str, Any]) -> bytes:
    """Return the PNG of a plan's ``content``. Raises ``UsageError`` where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--png needs matplotlib: pip install 'pipeloom[pictures]' (--html needs nothing)") from None
    grid = content["placement"].get("grid", [])[:_MOST_NODES]
    stages = content["mesh"]["pipeline"]
    heights = [max(1, len(grid)) * 0.42 + 0.5, min(stages, 32) * 0.42 + 0.9]
    figure = Figure(figsize=(_INCHES, sum(heights) + 0.5), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=heights)
    figure.suptitle(_title(content), fontsize=12, x=0.01, ha="left")
    _placement(above, grid, stages)
    _timeline(below, content)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _title(content: Mapping[str, Any]) -> str:
    mesh, step = content["mesh"], content["step"]
    tensor = f" x tensor {mesh['tensor']}" if mesh["tensor"] > 1 else ""
    return (
        f"{content['model']['name']} on {content['cluster']['name']}: pipeline {mesh['pipeline']} x data "
        f"{mesh['data']}{tensor}, {step['seconds']:.3g} s a step, MFU {step['mfu']:.0%}"
    )


def _placement(axes: Any, grid: Any, stages: int) -> None:
    devices = len(grid[0]) if grid else 1
    for node, row in enumerate(grid):
        for place, stage in enumerate(row):
            axes.barh(node, 0.96, left=place, height=0.82, color=of_stage(stage, stages))
            text = f"rank {node * devices + place}: stage {stage}" if devices <= 8 else str(stage)
            axes.text(place + 0.48, node, text, ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(grid)), [f"node {node}" for node in range(len(grid))])
    axes.set_xlim(0, max(devices, 4))
    axes.invert_yaxis()
    axes.set_xticks([])
    _bare(axes)


def _timeline(axes: Any, content: Mapping[str, Any]) -> None:
    spans = content["timeline"][:_MOST_SPANS]
    for what, colour in WORK.items():
        chosen = [span for span in spans if span[1] == what]
        if chosen:
            axes.barh(
                [span[0] for span in chosen],
                [span[4] - span[3] for span in chosen],
                left=[span[3] for span in chosen],
                height=0.82,
                color=colour,
                edgecolor="white",
                linewidth=0.4,
                label="exchange and update" if what == "after" else what,
            )
    count = max((span[0] for span in spans), default=0) + 1
    axes.set_yticks(range(count), [f"stage {stage}" for stage in range(count)])
    axes.invert_yaxis()
    axes.set_xlim(0, max((span[4] for span in spans), default=1.0))
    axes.set_xlabel("seconds")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=4, frameon=False, fontsize=8)
    _bare(axes)


def _bare(axes: Any) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
