"""Layouts in words: what one is, and why another is slower."""

from __future__ import annotations

from typing import Dict, List, Sequence

from pipeloom.core.contract.blocks import Block
from pipeloom.core.planning.cost.search import LayoutCandidate, Search
from pipeloom.core.planning.worth import TERMS, terms_of


def describe_candidate(candidate: LayoutCandidate) -> str:
    """Return a layout in words: mesh, order where it matters, micro-batches, split and options."""
    layout, options = candidate.layout, candidate.options
    parts = [str(candidate.mesh)]
    if layout.pipeline > 1:
        parts.append(candidate.order)
        parts.append(f"blocks {shorten(layout.split)}")
    parts.append(f"{layout.micro_batches} micro-batch{'es' * (layout.micro_batches > 1)}")
    parts += [f"{name} {options[name]}" for name in ("shard", "recompute") if options[name] != "none"]
    if layout.table:
        parts.append("tied table copied")
    return ", ".join(parts)


def stages_in_words(blocks: Sequence[Block], split: Sequence[int]) -> str:
    """Return a split as ``E+12T | 12T+H``: what stands before the layers, layers, and what stands after them.

    Counts with commas where a model has not just one block before its layers and one after them.
    """
    layers = [block.layer for block in blocks]
    if len(layers) < 3 or layers[0] or layers[-1] or not all(layers[1:-1]):
        return ",".join(map(str, split))
    texts = []
    for stage, count in enumerate(split):
        middle = count - (stage == 0) - (stage == len(split) - 1)
        parts = ["E"] * (stage == 0) + [f"{middle}T"] * (middle > 0) + ["H"] * (stage == len(split) - 1)
        texts.append("+".join(parts))
    return " | ".join(texts)


def shorten(split) -> str:
    """Return counts of blocks as text; many of them by their first and last ones."""
    counts = [str(count) for count in split]
    return "+".join(counts) if len(counts) <= 8 else "+".join([*counts[:3], "...", *counts[-2:]])


def flags_of(candidate: LayoutCandidate) -> str:
    """Return the options of a run that make this layout."""
    options = candidate.options
    usual = {"shard": "none", "recompute": "none", "tensor_parallel": 1}
    flags = [f"--{name} {value}" for name, value in options.items() if usual.get(name) != value]
    if candidate.layout.pipeline == 1:
        flags = [flag for flag in flags if not flag.startswith("--tied_transfer")]
    strategy = "data_parallel" if candidate.layout.pipeline == 1 else candidate.order
    return " ".join([f"--plugins {strategy},...", *flags])


def why_slower(search: Search, best: LayoutCandidate, other: LayoutCandidate) -> str:
    """Return by how much ``other`` is slower than ``best``, and the reasons that make up most of that."""
    here, there = (terms_of(search.model_of(one.layout), one.layout, one.cost) for one in (best, other))
    more: Dict[str, float] = {name: there.get(name, 0.0) - here.get(name, 0.0) for name in TERMS}
    total = other.seconds - best.seconds
    reasons: List[str] = []
    for name, seconds in sorted(more.items(), key=_second, reverse=True)[:2]:
        if seconds > 0.15 * max(total, 1e-12):
            reasons.append(f"{name} {there.get(name, 0.0):.3g} s instead of {here.get(name, 0.0):.3g}")
    share = f"{other.seconds:.3g} s (+{total / best.seconds:.0%})"
    return f"{share}: {', '.join(reasons)}" if reasons else share


def _second(entry) -> float:
    return entry[1]
