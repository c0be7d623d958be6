"""What a strategy may decide at once, where it weighs meshes, splits, placements and options against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.rank_load import PredictedMemory
from pipeloom.core.contract.topology import Mesh

#: ``memory(mesh, split, options)``: what a rank of each stage takes, by stage, with ``options`` in place of the run's.
MemoryOf = Callable[[Mesh, Sequence[int], Mapping[str, Any]], List[PredictedMemory]]


@dataclass(frozen=True)
class LayoutChoice:
    """State the layout of a run: an answer to ``pipeloom_choose_layout`` that says more than a ``Mesh``.

    ``split`` and ``placement``: then no partitioner and no strategy is asked. ``options``: values by name of options
    that the user left open (``config.given`` names the others). ``reasons``: lines for the log.
    """

    mesh: Mesh
    split: Optional[Tuple[int, ...]] = None
    placement: Optional[Placement] = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reasons: Tuple[str, ...] = ()
