"""Checks of strategies: layouts, partitions and placements in many shapes, the same in every process."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from pipeloom.core.base.errors import ContractError, UsageError
from pipeloom.core.config.config import Config
from pipeloom.core.contract.blocks import Block, ModelSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.host.answers import CHECKS
from pipeloom.testing.check import ConformanceError, need
from pipeloom.testing.elsewhere import in_another_process
from pipeloom.testing.subject import Subject

PLACE, LAYOUT, PARTITION = "pipeloom_place", "pipeloom_choose_layout", "pipeloom_partition"


def clusters() -> Iterator[Cluster]:
    """Those of up to 4 nodes with up to 4 devices, and some larger and odd ones."""
    sizes = [(nodes, devices) for nodes in range(1, 5) for devices in range(1, 5)]
    for nodes, devices in (*sizes, (1, 8), (2, 8), (3, 5), (6, 2), (8, 8)):
        if nodes * devices > 1:
            yield Cluster(nodes, devices)


def meshes(cluster: Cluster) -> Iterator[Mesh]:
    """All that use exactly the devices of ``cluster``."""
    for pipeline in divisors(cluster.size):
        for tensor in divisors(cluster.size // pipeline):
            yield Mesh(pipeline, cluster.size // pipeline // tensor, tensor)


def divisors(size: int) -> List[int]:
    return [number for number in range(1, size + 1) if size % number == 0]


class Shapes:
    """The shapes that a plugin answers, and those that it refuses, which it may unless it refuses all."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.answers: Dict[str, Any] = {}
        self.refused: List[str] = []

    def ask(self, hook: str, shape: str, config: Config, **arguments: Any) -> None:
        """Ask for one shape; raise ``ConformanceError`` for what is no answer."""
        try:
            answer = self._subject.hook(hook, config=config, **arguments)
        except UsageError as error:
            if _is_of_placement(error):
                raise ConformanceError(f"{shape}: {hook}: {error}: deal each rank to one stage") from error
            self.refused.append(f"{shape}: {error}")
            return
        except Exception as error:
            raise ConformanceError(
                f"{shape}: {hook} fails by {type(error).__name__} ({error}): answer, or raise UsageError with a line "
                "that says which shapes it takes"
            ) from error
        try:
            self.answers[shape] = CHECKS[hook](answer, arguments)
        except ContractError as error:
            raise ConformanceError(f"{shape}: {hook}: {error}") from error

    def need_some(self) -> None:
        first = self.refused[0] if self.refused else "there are none"
        need(
            self.answers,
            f"it refuses all {len(self.refused)} shapes ({first}): give the options that it needs after its name "
            "(--pipeloom 'NAME --option value')",
        )


def _is_of_placement(error: BaseException) -> bool:
    """Whether ``Placement.of`` refuses what the strategy made, and not the strategy a shape."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return last.f_code is Placement.of.__func__.__code__  # type: ignore[attr-defined]


def placed(subject: Subject) -> Shapes:
    """Ask for a placement in every shape."""
    shapes, model = Shapes(subject), subject.plan.model
    own = set(laid_out(subject).answers.values()) if LAYOUT in subject.hooks else None
    for cluster in clusters():
        for mesh in meshes(cluster):
            if own is None or mesh in own:  # it is asked for its own layouts alone
                config = subject.config.replace(nums_split=mesh.pipeline, tensor_parallel=mesh.tensor)
                shapes.ask(PLACE, f"{mesh} on {cluster}", config, cluster=cluster, mesh=mesh, model=model)
    return shapes


def laid_out(subject: Subject) -> Shapes:
    """Ask for a layout of every cluster, by ``--nums_split`` and ``--tensor_parallel`` that divide it."""
    shapes, model = Shapes(subject), subject.plan.model
    for cluster in clusters():
        for splits in (None, *divisors(cluster.size)):
            for tensor in divisors(cluster.size // (splits or 1)):
                config = subject.config.replace(nums_split=splits, tensor_parallel=tensor)
                shape = f"{cluster}, --nums_split {splits}, --tensor_parallel {tensor}"
                shapes.ask(LAYOUT, shape, config, cluster=cluster, model=model)
    return shapes


def parted(subject: Subject) -> Shapes:
    """Ask for a partition into every number of stages, of models with few and many layers."""
    shapes = Shapes(subject)
    for layers in (1, 2, 5, 12, 24):
        blocks = with_layers(subject.plan.model, layers)
        for stages in range(1, min(len(blocks), 9) + 1):
            config = subject.config.replace(nums_split=stages)
            shape = f"{len(blocks)} blocks in {stages} stages"
            shapes.ask(PARTITION, shape, config, blocks=blocks, num_stages=stages)
    return shapes


def with_layers(model: ModelSpec, count: int) -> Tuple[Block, ...]:
    """The blocks of ``model`` with ``count`` of its layers, copies of its first one."""
    layer = next((block for block in model.blocks if block.layer), model.blocks[0])
    layers = tuple(replace(layer, name=f"copy.{number}", borrow=None) for number in range(count))
    first = tuple(block for block in model.blocks[:1] if not block.layer)
    return (*first, *layers, *(block for block in model.blocks[-1:] if not block.layer and len(model.blocks) > 1))


def _check(ask: Callable[[Subject], Shapes]) -> Callable[[Subject, Path], None]:
    def check(subject: Subject, folder: Path) -> None:
        ask(subject).need_some()

    return check


places_every_rank_once = _check(placed)
lays_out_the_cluster = _check(laid_out)
partitions_all_blocks = _check(parted)

_ASKED = {PLACE: placed, LAYOUT: laid_out, PARTITION: parted}


def answers_of(subject: Subject) -> Dict[str, str]:
    """What the plugin answers in all shapes, as text."""
    found = {}
    for hook, ask in _ASKED.items():
        if hook in subject.hooks:
            shapes = ask(subject)
            for shape, answer in shapes.answers.items():
                found[f"{hook}: {shape}"] = str(getattr(answer, "stages", answer))
    return found


def answers_the_same_everywhere(subject: Subject, folder: Path) -> None:
    """The launchers of all nodes ask for themselves, and must agree."""
    first, elsewhere = answers_of(subject), in_another_process("pipeloom.testing.strategies:answers_of", subject)
    for how, other in (("asked again", answers_of(subject)), ("asked in another process", elsewhere)):
        shape: Optional[str] = next((shape for shape in first if first[shape] != other.get(shape)), None)
        need(
            shape is None,
            f"{shape}: it answers {first.get(str(shape))}, and {how} {other.get(str(shape))}: an answer may depend on "
            "its arguments alone (no random numbers, no order of a set, no state)",
        )
