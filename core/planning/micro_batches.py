"""How many micro-batches a step has where ``--micro_batch`` says how large they are, or that they shall fit."""

from __future__ import annotations

from typing import List, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.config.config import Config
from pipeloom.core.contract.layout_choice import MemoryOf
from pipeloom.core.contract.micro_batch import AUTO
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.machines import device_room

#: Micro-batches for each stage below which the stages of a pipeline would wait for each other most of the time.
_FOR_EACH_STAGE = 2


def with_micro_batch(config: Config, cluster: Cluster, mesh: Mesh, split: Sequence[int], memory: MemoryOf) -> Config:
    """Return ``config`` with the ``grad_acc_steps`` that its ``micro_batch`` comes to.

    ``auto`` takes the largest micro-batch that fits into a device's memory; a pipeline keeps at least two micro-batches
    for each stage where the batch has as many, or nothing would overlap. Raises ``UsageError`` for a size that does not
    divide a data-parallel rank's share, and where not even one sample fits.
    """
    if config.micro_batch is None:
        return config
    if "grad_acc_steps" in config.given and "micro_batch" in config.given:
        raise UsageError("--micro_batch and --grad_acc_steps both say how a batch is divided: give one of them")
    share, left = divmod(config.train_global_batch_size, mesh.data)
    if left:
        return config.replace(micro_batch=None)  # the check of the batch says what does not divide
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    if config.micro_batch != AUTO:
        if config.micro_batch not in sizes:
            raise UsageError(
                f"--micro_batch {config.micro_batch} does not divide the {share} samples of each of {mesh.data} "
                f"data-parallel ranks: choose one of {', '.join(map(str, reversed(sizes)))}"
            )
        return config.replace(grad_acc_steps=share // config.micro_batch, micro_batch=None)
    size = largest_that_fits(config, cluster, mesh, split, memory, sizes)
    return config.replace(grad_acc_steps=share // size, micro_batch=None)


def largest_that_fits(
    config: Config, cluster: Cluster, mesh: Mesh, split: Sequence[int], memory: MemoryOf, sizes: List[int]
) -> int:
    """Return the first of ``sizes`` (the largest first) that fits. Raises ``UsageError`` where none does."""
    room, share = device_room(config, cluster), sizes[0]
    wanted = _FOR_EACH_STAGE * mesh.pipeline if mesh.pipeline > 1 else 1
    enough = [size for size in sizes if share // size >= wanted] or sizes[-1:]
    need = 0.0
    for size in enough:
        need = max(one.total for one in memory(mesh, split, {"grad_acc_steps": share // size}))
        if need <= room:
            return size
    raise UsageError(
        f"--micro_batch auto: with micro-batches of {enough[-1]} sample{'s' * (enough[-1] > 1)} a rank needs about "
        f"{need / 1e9:.1f} GB, and has {room / 1e9:.1f} GB: take more stages (--nums_split), --shard, or "
        f"--recompute full"
    )
