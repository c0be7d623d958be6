"""Decoding: the blocks of all stages run eagerly on sequences that grow, with what attention keeps of them.

No nn.Graph: each length would be one to compile, or one graph of fixed length compute all of it for every token; and a
graph as short as the step of one token can crash the process (docs/oneflow-notes.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping

import numpy as np
import oneflow as flow

from pipeloom.core.contract import executor
from pipeloom.core.contract.blocks import NEXT_LOGITS
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.hops import carry
from pipeloom.plugins.executors.oneflow.ops import StageOps
from pipeloom.plugins.executors.oneflow.stages import find_borrowed

if TYPE_CHECKING:
    from pipeloom.plugins.executors.oneflow.program import GraphProgram


class StageDecoding:
    """Hold what attention keeps on one stage; ``positions`` and ``mask`` are those of the step under way."""

    def __init__(self) -> None:
        self.positions: Any = None
        self.mask: Any = None
        self._kept: Dict[str, flow.Tensor] = {}

    def keep(self, name: str, x: flow.Tensor, dim: int) -> flow.Tensor:
        before = self._kept.get(name)
        self._kept[name] = x if before is None else flow.cat([before, x], dim=dim)
        return self._kept[name]


class EagerDecoder(executor.Decoder):
    """Run the stages one after the other, each on its own ranks; every rank makes all calls."""

    def __init__(self, program: GraphProgram) -> None:
        spec = program.spec
        self._program, self._model = program, spec.model
        self._borrowed = find_borrowed(spec.model, spec.split)
        self._decodings = [StageDecoding() for _ in program.stages]
        stage = spec.placement.stage_of(spec.rank)
        # As in ``Feed``: the ranks of a tensor group are neighbours, and have the same sequences.
        self._position = spec.placement.stages[stage].index(spec.rank) // program.axes[0].tensor

    def step(self, fields: Mapping[str, np.ndarray], positions: np.ndarray, visible: np.ndarray) -> np.ndarray:
        mask = np.where(visible[:, None], 0.0, StageOps.MASKED).astype(np.float32)
        with flow.no_grad():
            logits = self._through(fields, positions, mask)[NEXT_LOGITS]
            return self._program.read(logits)[: len(positions)].copy()  # numpy() is the memory of the tensor

    def _through(self, fields: Mapping[str, np.ndarray], positions: np.ndarray, mask: np.ndarray) -> Any:
        """Run all stages; return what the last block does."""
        program, hidden = self._program, None
        for stage in program.stages:
            stage.eval()
        for number, (stage, here) in enumerate(zip(program.stages, program.axes)):
            if number in self._borrowed:
                owner = self._borrowed[number]
                part = getattr(program.stages[owner.stage].blocks[owner.position], f"part_{owner.part}")
                there = program.axes[owner.stage]
                hidden = carry(part(self._fed(fields[owner.field], there)), there, here)
            elif hidden is not None:
                hidden = carry(hidden, program.axes[number - 1], here)
            decoding = self._decodings[number]
            decoding.positions, decoding.mask = self._fed(positions, here), self._fed(mask, here)
            for block in stage.blocks:
                block.scope.decoding = decoding
            try:
                hidden = stage.run(hidden, {name: self._fed(array, here) for name, array in fields.items()})
            finally:
                for block in stage.blocks:
                    block.scope.decoding = None
        return hidden

    def _fed(self, array: np.ndarray, axes: StageAxes) -> flow.Tensor:
        """Return an array that every rank knows, split by its rows over the data-parallel ranks of a stage.

        Rows that do not divide are filled up with copies of the last one.
        """
        share = -(-len(array) // axes.data)
        own = np.minimum(np.arange(self._position * share, (self._position + 1) * share), len(array) - 1)
        local = flow.from_numpy(np.ascontiguousarray(array[own]))
        local = local if axes.place.type == "cpu" else local.to(axes.place.type)
        return local.to_global(placement=axes.place, sbp=axes.batch, check_meta=False)
