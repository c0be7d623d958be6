"""What the answer to each hook must be: the contract of ``core/contract/hookspecs.py`` as checks.

Each check gets the answer and the arguments that the hook was called with, by name. It returns the answer in the form
that the core works with, and raises ``ContractError`` with what is wrong and what to give instead.
"""

from __future__ import annotations

import math
import numbers
import operator
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.base.errors import ContractError, UsageError, shown
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.cluster_options import ClusterOptions
from pipeloom.core.contract.commands import Command, PrepareKind
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.derived import DerivedField
from pipeloom.core.contract.executor import Executor
from pipeloom.core.contract.layout_choice import LayoutChoice
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.record_kinds import RecordKind
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.contract.tasks import Head, HeadFor, Predictor, Task
from pipeloom.core.contract.topology import Mesh

Arguments = Mapping[str, Any]


def _need(fits: bool, text: str) -> None:
    if not fits:
        raise ContractError(text)


def _instance(answer: Any, kind: type, how: str) -> None:
    """Refuse what is no ``kind``; ``how`` says how to make one."""
    if isinstance(answer, kind):
        return
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    raise ContractError(f"it answers {_named(answer)}, not {article} {kind.__name__}: {how}")


def _named(answer: Any) -> str:
    """``answer`` in a message, with what the usual reason of it is."""
    if answer is None:
        return "None (is a 'return' missing?)"
    if isinstance(answer, type):
        return f"the class {answer.__name__} itself (is '()' missing?)"
    text = shown(answer)
    return text if len(text) <= 100 else text[:97] + "..."


def _is_count(value: Any, low: int = 1) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= low


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def layout(answer: Any, arguments: Arguments) -> LayoutChoice:
    choice = answer if isinstance(answer, LayoutChoice) else None
    mesh = answer if choice is None else choice.mesh
    _instance(mesh, Mesh, "return Mesh(pipeline, data, tensor) of pipeloom.core.contract.topology")
    sizes = (mesh.pipeline, mesh.data, mesh.tensor)
    _need(all(map(_is_count, sizes)), f"it answers the sizes {shown(sizes)}: each must be a whole number from 1 on")
    try:
        mesh.check(arguments["cluster"])
    except UsageError as error:
        raise ContractError(f"it answers what does not fit: {error}") from None
    if choice is None:
        return LayoutChoice(mesh)
    config = arguments["config"]
    for name, value in choice.options.items():
        _need(name in config.declared, f"its option '{name}' is declared by nobody")
        same = name not in config.given or getattr(config, name) == value
        _need(same, f"its option '{name}' is one that the user gave: leave it out")
    if choice.split is not None:
        facts = {"blocks": arguments["model"].blocks, "num_stages": mesh.pipeline}
        choice = replace(choice, split=partition(choice.split, facts))
    if choice.placement is not None:
        placement(choice.placement, {**arguments, "mesh": mesh})
    return choice


def partition(answer: Any, arguments: Arguments) -> Tuple[int, ...]:
    blocks, stages = len(arguments["blocks"]), arguments["num_stages"]
    wanted = f"{stages} positive counts that sum up to the {blocks} blocks"
    try:
        counts = tuple(map(operator.index, answer))
    except TypeError:  # nothing to go through, or no whole numbers in it
        raise ContractError(f"it answers {_named(answer)}, not a list of {wanted}") from None
    _need(
        len(counts) == stages and sum(counts) == blocks and min(counts) >= 1,
        f"it answers {shown(list(counts))}, not {wanted}",
    )
    return counts


def placement(answer: Any, arguments: Arguments) -> Placement:
    cluster, mesh = arguments["cluster"], arguments["mesh"]
    _instance(answer, Placement, "return Placement.of(cluster, stages) of pipeloom.core.contract.placement")
    try:
        placed = Placement.of(cluster, answer.stages)
    except UsageError as error:
        raise ContractError(f"its answer does not fit: {error}") from None
    except (TypeError, ValueError):
        raise ContractError(
            f"it answers the stages {shown(answer.stages)}, not a sequence of ranks for each stage"
        ) from None
    _need(len(placed.stages) == mesh.pipeline, f"it places {len(placed.stages)} stages, the mesh has {mesh.pipeline}")
    return placed


def dataset(answer: Any, arguments: Arguments) -> Any:
    split = arguments["split"]
    if answer is None and split == "eval":
        return None
    _instance(answer, Dataset, "return an object of a class derived from pipeloom.core.contract.dataset.Dataset")
    for name, kind, what in (
        ("task", str, "the name of its task"),
        ("fields", dict, "its Fields by name"),
        ("vocab_size", int, "the size of its vocabulary"),
    ):
        value = getattr(answer, name, None)
        _need(isinstance(value, kind), f"its dataset has no '{name}', {what}: it is {shown(value)}")
    _need(
        _is_count(answer.vocab_size),
        f"'vocab_size' of its dataset must be a whole number from 1 on, not {shown(answer.vocab_size)}",
    )
    _need(bool(answer.fields), "'fields' of its dataset is empty")
    _need(
        isinstance(answer.settings, Mapping),
        f"'settings' of its dataset must be options by their names, not {shown(answer.settings)}",
    )
    for name in answer.settings:
        _need(
            name in arguments["config"].declared,
            f"'settings' of its dataset has {shown(name)}, which is no option that its plugin declares",
        )
    for name, field in answer.fields.items():
        _field(f"the field {shown(name)} of its dataset", field)
        _need(
            field.name == name,
            f"the field {shown(name)} of its dataset has another name in itself, {shown(field.name)}",
        )
    for name in ("__len__", "read", "describe"):
        _need(getattr(type(answer), name) is not getattr(Dataset, name), f"its dataset has no method {name}()")
    _need(len(answer) > 0 or split == "eval", "its dataset has no samples: nothing can be trained")
    return answer


def _field(where: str, field: Any) -> None:
    _need(isinstance(field, Field), f"{where} is {shown(field)}, not a Field of pipeloom.core.contract.dataset")
    _need(field.dtype in ("int32", "float32"), f"{where} must be of 'int32' or 'float32', not {shown(field.dtype)}")
    _need(
        isinstance(field.shape, tuple) and all(map(_is_count, field.shape)),
        f"the shape of {where} must be a tuple of sizes from 1 on, not {shown(field.shape)}",
    )


def tasks(answer: Any, arguments: Arguments) -> List[Task]:
    if isinstance(answer, Task):
        raise ContractError(f"it answers the Task '{answer.name}' itself: put it into a list, return [task]")
    _need(
        isinstance(answer, (list, tuple)),
        f"it answers {_named(answer)}, not a list of Tasks of pipeloom.core.contract.tasks",
    )
    names: List[str] = []
    for task in answer:
        _instance(task, Task, "return a list of Tasks of pipeloom.core.contract.tasks")
        _need(
            isinstance(task.name, str) and bool(task.name), f"the name of a task must be text, not {shown(task.name)}"
        )
        _need(task.name not in names, f"it answers two tasks of the name '{task.name}'")
        _need(
            callable(task.head) and callable(task.derived),
            f"'head' and 'derived' of the task '{task.name}' must be functions",
        )
        _need(
            isinstance(task.derived_figures, Mapping) and all(map(callable, task.derived_figures.values())),
            f"'derived_figures' of the task '{task.name}' must be functions by name, not {shown(task.derived_figures)}",
        )
        _need(
            task.predict is None or isinstance(task.predict, Predictor),
            f"'predict' of the task '{task.name}' must be a Predictor of pipeloom.core.contract.tasks, not "
            f"{shown(task.predict)}",
        )
        names.append(task.name)
    return list(answer)


def heads(answer: Any, arguments: Arguments) -> List[HeadFor]:
    if isinstance(answer, HeadFor):
        raise ContractError(f"it answers the head for '{answer.task}' itself: put it into a list, return [head]")
    _need(
        isinstance(answer, (list, tuple)),
        f"it answers {_named(answer)}, not a list of HeadFors of pipeloom.core.contract.tasks",
    )
    pairs: List[Tuple[str, str]] = []
    for offer in answer:
        _instance(offer, HeadFor, "return a list of HeadFors of pipeloom.core.contract.tasks")
        pair = offer.task, offer.model
        _need(
            all(isinstance(name, str) and name for name in pair),
            f"'task' and 'model' of a HeadFor must be names, not {shown(pair)}",
        )
        _need(pair not in pairs, f"it answers two heads of the task '{offer.task}' for the model '{offer.model}'")
        _need(callable(offer.build), f"'build' of its head for '{offer.task}' must be a function")
        pairs.append(pair)
    return list(answer)


def head(answer: Any) -> Head:
    _instance(answer, Head, "return a Head of pipeloom.core.contract.tasks")
    _need(isinstance(answer.block, Block), f"'block' of its head must be a Block, not {shown(answer.block)}")
    _losses(answer.losses, "its head")
    return answer


def initial_distributions(answer: Any, arguments: Arguments) -> Dict[str, Callable]:
    _need(
        isinstance(answer, dict) and all(isinstance(name, str) and callable(value) for name, value in answer.items()),
        f"it answers {_named(answer)}, not a dict: return functions (generator, spec) by their names",
    )
    return answer


def sample_fields(answer: Any, arguments: Arguments) -> List[SampleField]:
    _need(
        _is_list(answer, SampleField),
        f"it answers {_named(answer)}, not a list of SampleFields of pipeloom.core.contract.sample_fields",
    )
    for one in answer:
        where = f"its field {shown(getattr(one.field, 'name', one.field))}"
        _field(where, one.field)
        _need(isinstance(one.field.name, str) and bool(one.field.name), f"{where}: the name must be text")
        _need(
            callable(one.compute) and (one.evaluate is None or callable(one.evaluate)),
            f"'compute' and 'evaluate' of {where} must be functions",
        )
    return list(answer)


def derived(answer: Any) -> Sequence[DerivedField]:
    _need(
        _is_list(answer, DerivedField),
        f"it answers {_named(answer)}, not a list of DerivedFields of pipeloom.core.contract.derived",
    )
    return answer


def _losses(losses: Any, whose: str) -> None:
    _need(
        isinstance(losses, Mapping) and bool(losses),
        f"'losses' of {whose} must give each loss its weight by name, not {shown(losses)}",
    )
    for name, weight in losses.items():
        _need(
            isinstance(name, str) and _is_number(weight),
            f"'losses' of {whose}: the weight of {shown(name)} must be a number, not {shown(weight)}",
        )


def model(answer: Any, arguments: Arguments) -> ModelSpec:
    _instance(answer, ModelSpec, "return a ModelSpec of pipeloom.core.contract.blocks")
    _need(
        bool(answer.blocks) and _is_list(answer.blocks, Block),
        f"'blocks' of its model must be a tuple of Blocks, not {shown(answer.blocks)}",
    )
    _losses(answer.losses, "its model")
    shapes: Dict[str, Any] = {}
    names: Dict[str, Block] = {}
    for block in answer.blocks:
        _need(
            isinstance(block.name, str) and block.name not in names,
            f"its model has two blocks of the name {shown(block.name)}",
        )
        names[block.name] = block
        _block(block, shapes)
    for block in answer.blocks:
        owner = block.borrow.owner if block.borrow is not None else block.name
        _need(owner in names, f"its block '{block.name}' borrows from the block {shown(owner)}, which is not there")
    return answer if isinstance(answer.blocks, tuple) else replace(answer, blocks=tuple(answer.blocks))


def _block(block: Block, shapes: Dict[str, Any]) -> None:
    where = f"of its block '{block.name}'"
    _need(
        _is_list(block.parameters, ParameterSpec),
        f"'parameters' {where} must be a tuple of ParameterSpecs, not {shown(block.parameters)}",
    )
    _need(isinstance(block.cost, Cost), f"'cost' {where} must be a Cost, not {shown(block.cost)}")
    for name, value in vars(block.cost).items():
        _need(
            _is_number(value) and value >= 0, f"'cost' {where}: '{name}' must be a number from 0 on, not {shown(value)}"
        )
    _need(
        _is_list(block.inputs, str), f"'inputs' {where} must be a tuple of names of fields, not {shown(block.inputs)}"
    )
    _need(callable(block.build), f"'build' {where} must be a function, not {shown(block.build)}")
    for spec in block.parameters:
        _need(
            isinstance(spec.name, str) and isinstance(spec.shape, (tuple, list)) and all(map(_is_count, spec.shape)),
            f"the shape of the parameter {shown(spec.name)} {where} must be a tuple of sizes from 1 on, not "
            f"{shown(spec.shape)}",
        )
        _need(
            shapes.setdefault(spec.name, spec.shape) == spec.shape,
            f"its model has two shapes of the parameter '{spec.name}': {shapes[spec.name]} and {spec.shape}",
        )


def executor(answer: Any, arguments: Arguments) -> Executor:
    _instance(answer, Executor, "return an object of a class derived from pipeloom.core.contract.executor.Executor")
    return answer


def optimizer(answer: Any, arguments: Arguments) -> Any:
    if not isinstance(answer, StepOptimizer):
        how = "return an OptimizerSpec or a StepOptimizer of pipeloom.core.contract.optimizer"
        _instance(answer, OptimizerSpec, how)
        _need(
            isinstance(answer.settings, Mapping),
            f"'settings' of its OptimizerSpec must be numbers by name, not {shown(answer.settings)}",
        )
        for name, value in {"weight_decay": answer.weight_decay, **answer.settings}.items():
            _need(_is_number(value), f"'{name}' of its OptimizerSpec must be a number, not {shown(value)}")
    return answer


def schedule(answer: Any, arguments: Arguments) -> Any:
    if not callable(getattr(answer, "at", None)) or isinstance(answer, type):
        raise ContractError(
            f"it answers {_named(answer)}, not an LRSchedule: return one of pipeloom.core.contract.schedule, or what "
            "has its method at(step)"
        )
    for step in {0, max(0, (getattr(arguments["config"], "train_steps", None) or 1) - 1)}:
        rate = answer.at(step)
        _need(
            _is_number(rate) and rate >= 0,
            f"its learning rate of step {step + 1} is {shown(rate)}, not a number from 0 on",
        )
    return answer


def default_options(answer: Any, arguments: Arguments) -> Dict[str, Any]:
    if answer is None:
        return {}
    if not isinstance(answer, dict) or not all(isinstance(name, str) for name in answer):
        raise ContractError(f"it answers {_named(answer)}, not a dict: return default values by the names of options")
    return answer


def cluster_options(answer: Any, arguments: Arguments) -> Optional[ClusterOptions]:
    if answer is not None:
        _instance(answer, ClusterOptions, "return ClusterOptions(source, values), or None")
        _need(
            isinstance(answer.values, Mapping) and all(isinstance(name, str) for name in answer.values),
            f"its values are {shown(answer.values)}, not a dict by the names of options",
        )
    return answer


def commands(answer: Any, arguments: Arguments) -> List[Command]:
    return _named_functions(answer, Command, ("run",))


def prepare_kinds(answer: Any, arguments: Arguments) -> List[PrepareKind]:
    return _named_functions(answer, PrepareKind, ("add_arguments", "run"))


def record_kinds(answer: Any, arguments: Arguments) -> List[RecordKind]:
    if not _is_list(answer, RecordKind):
        raise ContractError(f"it answers {_named(answer)}, not a list of RecordKinds")
    for kind in answer:
        where = f"its RecordKind {shown(kind.name)}"
        _need(isinstance(kind.name, str) and bool(kind.name.strip()), f"{where}: 'name' must be words")
        _need(isinstance(kind.legend, str), f"{where}: 'legend' must be text, not {shown(kind.legend)}")
        for name in ("matches", "checks"):
            _need(callable(getattr(kind, name)), f"{where}: '{name}' must be a function")
        _need(kind.lines is None or callable(kind.lines), f"{where}: 'lines' must be a function or None")
    return list(answer)


def _named_functions(answer: Any, kind: type, functions: Sequence[str]) -> List[Any]:
    if not _is_list(answer, kind):
        raise ContractError(f"it answers {_named(answer)}, not a list of {kind.__name__}s")
    for one in answer:
        where = f"its {kind.__name__} {shown(one.name)}"
        _need(isinstance(one.name, str) and bool(one.name.strip("-")), f"{where}: 'name' must be a word")
        _need(isinstance(one.help, str), f"{where}: 'help' must be text, not {shown(one.help)}")
        for name in functions:
            _need(callable(getattr(one, name)), f"{where}: '{name}' must be a function")
    return list(answer)


#: Hook -> its check. The other hooks answer nothing.
CHECKS: Dict[str, Callable[[Any, Arguments], Any]] = {
    "pipeloom_choose_layout": layout,
    "pipeloom_partition": partition,
    "pipeloom_place": placement,
    "pipeloom_commands": commands,
    "pipeloom_prepare_kinds": prepare_kinds,
    "pipeloom_record_kinds": record_kinds,
    "pipeloom_tasks": tasks,
    "pipeloom_heads": heads,
    "pipeloom_initial_distributions": initial_distributions,
    "pipeloom_sample_fields": sample_fields,
    "pipeloom_default_options": default_options,
    "pipeloom_cluster_options": cluster_options,
    "pipeloom_build_model": model,
    "pipeloom_open_dataset": dataset,
    "pipeloom_executor": executor,
    "pipeloom_build_optimizer": optimizer,
    "pipeloom_lr_schedule": schedule,
}
