"""What a rank of OneFlow takes: fitted to the engine's compiled plans (``benchmarks/lab/memory_fit.py``).

On a CPU the engine shares no memory between operations (docs/oneflow-notes.md), so a rank holds what every operation of
a step puts out, forward and backward, beside what must be kept.
"""

from __future__ import annotations

from typing import Dict

from pipeloom.core.contract.rank_load import PredictedMemory, RankLoad
from pipeloom.plugins.executors.oneflow.gpu_memory import gpu_memory, waiting_micro_batches

#: What all operations of a micro-batch put out, forward and backward, over what its backward pass needs.
_ACTIVATIONS = 8.2
#: The same of a block that is computed again, and of the forward pass alone, which an evaluation has.
_RECOMPUTED, _FORWARD = 13.7, 3.5
#: The part of what a block keeps that each rank of a tensor group has whole.
_WHOLE_IN_GROUP = 0.64
#: What a gathering takes, with what comes, what is put together and the product by 1 that holds it in its place.
_GATHERED = 2.3
#: What the engine's buffers between forward and backward operations hold of a micro-batch, over what is kept.
_BUFFERED = 0.95
#: Tensors as large as the gradients that the norm over all of them and the scaling by it take.
_NORM, _SCALED = 2, 1
#: Bytes of a process after its imports, and what the graph takes in each rank's process for a block of the model, and
#: for one of its own; the same with data parallelism, which moves more.
_PROCESS, _BLOCK, _OWN_BLOCK = 430e6, 23e6, 23e6
_EXCHANGE, _EXCHANGED_BLOCK = 50e6, 12e6
_ERROR = 0.15


def memory_of(load: RankLoad) -> PredictedMemory:
    """Return what a rank takes: fitted to this version's plans on CPUs, to earlier versions' on GPUs."""
    if load.device_type == "cpu":
        return PredictedMemory(_on_cpu(load), _ERROR)
    return PredictedMemory(gpu_memory(load), held=waiting_micro_batches(load))


def _on_cpu(load: RankLoad) -> Dict[str, float]:
    several = load.micro_batches > 1
    gathered, spread = load.whole > load.parameters, load.updated < load.whole
    gradients = load.whole  # as the backward pass of a micro-batch makes them
    if several:
        gradients += load.updated if gathered else load.whole  # added up over the micro-batches
    if spread:  # parts for each rank, those that came, their sum and where it is made, and a copy of it
        gradients += (2 * load.data + 2) * load.updated
    elif load.data > 1:
        gradients += load.updated  # added up over the ranks
    gradients += (_NORM + (_SCALED if load.clipped else 0)) * load.updated
    if several:
        gradients += 2 * load.lent  # what the other stage's use adds is added up apart (lending.py), then to the rest
    if load.between_steps:
        gradients += 2 * load.updated  # records, and what is made of them
    waiting = 2 * load.stages if several and load.stage < load.stages - 1 else 0
    share = 1 / load.tensor + _WHOLE_IN_GROUP * (1 - 1 / load.tensor)
    activations = share * (_ACTIVATIONS * load.kept + _RECOMPUTED * load.recomputed)
    if load.evaluates:
        activations += share * _FORWARD * (load.kept + load.recomputed)
    buffers = waiting * (_BUFFERED * share * load.kept + load.boundaries + load.looked_up)
    return {
        "parameters": load.parameters + (load.updated if load.masters else 0.0) + _GATHERED * load.gathered,
        "gradients": gradients,
        "optimizer": load.states * load.updated,
        "activations": activations,
        "waiting micro-batches": buffers,
        "inputs": 2 * load.batch,
        "process": _process(load),
        "copy of the state": load.saved,
    }


def _process(load: RankLoad) -> float:
    """The interpreter and the engine, and what it keeps of the graph, twice with a second graph for evaluations."""
    graph = _BLOCK * load.blocks + _OWN_BLOCK * load.own_blocks
    if load.data * load.tensor > 1:
        graph += _EXCHANGE + _EXCHANGED_BLOCK * load.own_blocks
    return _PROCESS + graph * (1.3 if load.evaluates else 1.0)
