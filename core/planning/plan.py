"""The plan of a run: a checked whole, made before the engine starts (``core/planning/planner.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.config.config import Config
from pipeloom.core.contract.blocks import BatchSize, ModelSpec
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.layout_choice import MemoryOf
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.order import SampleOrder
from pipeloom.core.planning.goal import Goal
from pipeloom.core.planning.traffic import Traffic, step_traffic


@dataclass(frozen=True)
class Choices:
    """State what layouts of a job are made of: its ``model`` before it is known how a tied table is carried, and
    ``memory``, what a layout takes."""

    model: ModelSpec
    memory: MemoryOf


@dataclass(frozen=True, repr=False)
class Plan:
    """What will run where.

    ``config`` is resolved: nothing in it is left to be decided. ``split`` counts the blocks of each stage;
    ``evaluation`` is the held-out set, if there is one, and ``goal`` what the best checkpoint has the best of;
    ``added`` are the fields of batches that plugins compute, by name; ``derived_figures`` those of the task
    (``core/contract/tasks.py``). ``choices``: what other layouts of the job are weighed with. ``chosen`` are options
    that the strategy has decided, ``reasons`` why, in lines.
    """

    config: Config
    cluster: Cluster
    mesh: Mesh
    dataset: Dataset
    model: ModelSpec
    split: Tuple[int, ...]
    placement: Placement
    evaluation: Optional[Dataset] = None
    goal: Goal = Goal()
    added: Mapping[str, SampleField] = field(default_factory=dict)
    derived_figures: Mapping[str, Callable[[Mapping[str, float]], float]] = field(default_factory=dict)
    choices: Optional["Choices"] = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    reasons: Tuple[str, ...] = ()

    def __repr__(self) -> str:
        """A line; ``report()`` has all of it."""
        where = f"{self.mesh} on {self.cluster}, blocks {list(self.split)}; {self.placement.summary()}"
        return f"<Plan {self.model.name}, {where}>"

    def report(self) -> str:
        """Return what the log of a run says of its plan, with what may not be what was meant."""
        from pipeloom.core.planning.report import describe_plan, hints  # it imports this module

        return "\n".join([describe_plan(self), *self.reasons, *hints(self)])

    @property
    def micro_batch_size(self) -> int:
        """Samples that one rank works on at once."""
        return self.config.train_global_batch_size // (self.mesh.data * self.config.grad_acc_steps)

    @property
    def fields(self) -> Dict[str, Field]:
        """Fields of the dataset and those that plugins compute."""
        return {**self.dataset.fields, **{name: one.field for name, one in self.added.items()}}

    @property
    def batch(self) -> BatchSize:
        """Samples and tokens of the global batch of one step."""
        return BatchSize.of(self.config.train_global_batch_size, self.config.seq_length)

    def recomputed(self) -> List[List[int]]:
        """For each stage the positions of its blocks that ``--recompute`` names: the first ones that are layers."""
        layers = [
            [position for position, block in enumerate(blocks) if block.layer]
            for blocks in self.model.stage_blocks(self.split)
        ]
        return [positions[: recompute_count(self.config.recompute, len(positions))] for positions in layers]

    def traffic(self) -> Traffic:
        """Bytes that the ranks send each other in a step."""
        return step_traffic(
            self.model,
            self.split,
            self.placement,
            self.batch,
            self.mesh.tensor,
            self.config.grad_acc_steps if self.config.shard == "parameters" else 0,
            self.config.shard,
        )

    def stage_parameters(self) -> List[int]:
        """Number of parameters that each stage holds, copies of another stage's included."""
        return [sum(block.size for block in blocks) for blocks in self.model.stage_blocks(self.split)]

    def order(self) -> SampleOrder:
        config = self.config
        return SampleOrder(
            len(self.dataset), config.train_global_batch_size, config.seed, config.shuffle, self.dataset.mixture
        )


def recompute_count(text: str, layers: int) -> int:
    """How many of ``layers`` layers to recompute. Raises ``UsageError`` for what is no such number."""
    if text in ("none", "full"):
        return layers if text == "full" else 0
    if not text.isdecimal():
        raise UsageError(f"--recompute {text}: give none, full, or the number of layers of each stage to recompute")
    return int(text)
