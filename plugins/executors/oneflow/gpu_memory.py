"""What a rank of OneFlow takes on a GPU, by the engine's plan, which lets operations share memory there.

The constants are fitted to what OneFlow planned on GPUs: 18 runs of GPT on V100 (OneFlow 0.3.5, DLPerf) and 11 of BERT
on M40 (0.5, the original project); ``benchmarks/memory_accuracy.py`` holds each of them against this. OneFlow 0.9.0 has
not been looked at on a GPU, so nothing is refused on the strength of it.
"""

from __future__ import annotations

from typing import Dict

from pipeloom.core.contract.rank_load import RankLoad

#: Tensors as large as the parameters that gradients take: as they are made; what comes and goes between data-parallel
#: ranks; and those that micro-batches are added up in, with what is added and the copies of it.
_GRADIENTS, _EXCHANGED, _ADDED = 1.2, 0.4, 4.8
#: What is kept of a micro-batch, over what its backward pass needs; what is computed again, of the largest block.
_KEPT, _AGAIN = 1.1, 1.4
#: The part of what a block keeps that each rank of a tensor group has whole.
_WHOLE_IN_GROUP = 0.08
#: Boundaries between blocks that are computed again, over their size.
_BOUNDARIES = 1.15
#: Bytes of workspaces whatever the model.
_WORKSPACE = 300e6


def gpu_memory(load: RankLoad) -> Dict[str, float]:
    """Return bytes by reason.

    The buffers between stages let every stage but the last keep twice as many micro-batches as there are stages from it
    to the end: so the first of two stages keeps four, the last one.
    """
    waiting = waiting_micro_batches(load)
    several = load.micro_batches > 1
    gradients = load.whole * (_GRADIENTS + (_EXCHANGED if load.data > 1 else 0.0) + (_ADDED if several else 0.0))
    share = 1 / load.tensor + _WHOLE_IN_GROUP * (1 - 1 / load.tensor)
    activations = waiting * (_KEPT * share * load.kept + _BOUNDARIES * load.boundaries)
    if load.recomputed:
        activations += _AGAIN * share * load.largest
    return {
        "parameters": load.parameters + (load.updated if load.masters else 0.0),
        "gradients": gradients + (load.updated if load.between_steps else 0.0),
        "optimizer": load.states * load.updated,
        "activations": activations,
        "inputs": load.batch,
        "workspaces": _WORKSPACE,
        "copy of the state": load.saved,
    }


def waiting_micro_batches(load: RankLoad) -> int:
    """Return how many micro-batches a stage has room for: the engine's buffers do not ask how many there are."""
    return 2 * (load.stages - load.stage) if load.micro_batches > 1 and load.stage < load.stages - 1 else 1
