"""Colours of stages and of what they do, the same on the page and in the picture."""

from __future__ import annotations

import colorsys

#: What a stage does -> colour. Told apart by lightness too: for paper, and for those who see fewer colours.
WORK = {"forward": "#4c8bd6", "backward": "#1f5a9e", "weights": "#7fb2e5", "after": "#c9803a"}
#: Parts of memory, in the order in which they are stacked.
PARTS = ("#4c8bd6", "#7fb2e5", "#c9803a", "#e2ad74", "#5e9e6e", "#9cc7a6", "#8a77b5", "#b9add3", "#b05f6d")


def of_stage(stage: int, stages: int) -> str:
    """Return the colour of a stage, of light and dark ones in turn around the circle."""
    hue = (0.58 + stage / max(1, stages)) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.72 if stage % 2 else 0.62, 0.48)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
