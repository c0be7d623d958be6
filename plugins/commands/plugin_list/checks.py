"""``plugins --check NAME``: a plugin held to the contract, part by part, as far as that can be without a run."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence

from pipeloom.core.base.errors import ContractError, PipeloomError, UsageError
from pipeloom.core.config.config import resolve
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.rank_load import PredictedMemory
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.host import shape
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.deprecation import deprecated_in
from pipeloom.core.planning.planner import resolved_steps
from pipeloom.plugins.commands.plugin_list.description import kind_of_plugin, load_any, manager_with, short_path

#: States of a finding. ``ASKS`` is a refusal that the plugin has for its user, which is no fault.
RIGHT, WRONG, NOTE, ASKS, NOT_ASKED = "right", "wrong", "note", "asks", "not asked"
#: What an import must not bring in: it costs seconds, and makes the process that imports it a rank.
ENGINES = ("oneflow", "torch", "tensorflow", "jax")
#: Why a hook is not asked.
NEEDS = {
    "pipeloom_build_model": "needs a task and its data: plan a run with it",
    "pipeloom_open_dataset": "needs the data: plan a run with it",
}


@dataclass(frozen=True)
class ContractFinding:
    """Something that was looked at: ``hook`` is "" for the plugin as a whole."""

    state: str
    hook: str
    text: str


def check_plugin(name: str) -> List[ContractFinding]:
    """Return what is right and wrong with the plugin ``name``. Raises ``UsageError`` where there is none."""
    kind_of_plugin(name)
    return list(_findings(name))


def _findings(name: str) -> Iterator[ContractFinding]:
    there, began = set(sys.modules), time.perf_counter()
    try:
        plugin, version = load_any(name)
    except UsageError as error:
        yield ContractFinding(WRONG, "", str(error))
        return
    seconds = time.perf_counter() - began
    file = getattr(shape.module_of(plugin), "__file__", None)
    yield ContractFinding(RIGHT, "", f"it is found ({version}): {short_path(file)}")
    brought = sorted(engine for engine in ENGINES if engine in set(sys.modules) - there)
    if brought:
        text = f"its import takes {seconds:.1f} s and brings in {', '.join(brought)}: import it inside functions"
        yield ContractFinding(WRONG, "", text)
    else:
        yield ContractFinding(RIGHT, "", f"its import takes {seconds:.2f} s and brings in no engine")
    parts = list(_contract(plugin, name in builtin()))
    yield from parts
    if any(part.state == WRONG for part in parts):
        return
    try:
        manager = manager_with(name)
        options = manager.options()
    except PipeloomError as error:
        yield ContractFinding(WRONG, "", str(error))
        return
    own = [option for option in options if option.owner == name]
    if own:
        text = f"declares {', '.join('--' + option.name for option in own)}"
        yield ContractFinding(RIGHT, "pipeloom_add_options", text)
        for option in own:
            if not option.help.strip():
                yield ContractFinding(NOTE, "pipeloom_add_options", f"--{option.name} has no help")
    config = resolve(options, [name], False)
    config = config.replace(**resolved_steps(config, 1000))
    yield from _answers(name, plugin, manager, config)


def _contract(plugin: Any, built_in: bool) -> Iterator[ContractFinding]:
    """What the host holds every plugin to when it is loaded, and more of the author's interest."""
    version, ours = shape.version_of(plugin), hookspecs.CONTRACT_VERSION
    if version is None and not built_in:
        text = f"it does not state for which version of the contract it is: write PIPELOOM_API = {ours}"
        yield ContractFinding(NOTE, "", text)
    known = shape.known_hooks()
    for hook, part in shape.parts_of(plugin):
        try:
            part()
        except ContractError as error:
            yield ContractFinding(WRONG, hook, str(error))
            continue
        if hook:
            taken = ", ".join(shape.arguments_of(plugin)[hook])
            rest = [argument for argument in known[hook] if argument not in shape.arguments_of(plugin)[hook]]
            more = f"; it could also take {', '.join(rest)}" if rest else ""
            yield ContractFinding(RIGHT, hook, f"takes ({taken}){more}")
    if version == ours:
        yield ContractFinding(RIGHT, "", f"PIPELOOM_API = {version}, the version of this contract")
    for entry in deprecated_in(shape.arguments_of(plugin)):
        if entry.removed_in > ours:
            yield ContractFinding(NOTE, entry.hook, str(entry))


def _answers(name: str, plugin: Any, manager: Any, config: Any) -> Iterator[ContractFinding]:
    """What its hooks answer that can be asked without data, a task or a run."""
    calls = _calls(config, manager)
    wraps = {marks.get("specname") or attribute for attribute, marks in shape.marked(plugin).items() if _wraps(marks)}
    for hook in sorted(shape.hooks_of(plugin), key=list(shape.known_hooks()).index):
        if hook == "pipeloom_add_options":
            continue
        if hook in wraps:
            yield ContractFinding(NOT_ASKED, hook, "wraps the answers of others: plan a run with it")
        elif hook == "pipeloom_place" and not calls[hook]:
            yield ContractFinding(NOT_ASKED, hook, "has no layout that it could be asked for")
        elif hook in calls:
            yield _asked(hook, manager, f"{manager.whose(name)}, hook ", calls[hook])
        else:
            yield ContractFinding(NOT_ASKED, hook, NEEDS.get(hook, "is called in a run: --trace_plugins shows it"))


def _wraps(marks: Mapping[str, Any]) -> bool:
    return bool(marks.get("hookwrapper") or marks.get("wrapper"))


def _asked(hook: str, manager: Any, blame: str, calls: Sequence[Mapping[str, Any]]) -> ContractFinding:
    answered, refusals = 0, []
    for arguments in calls:
        try:
            getattr(manager.hook, hook)(**arguments)
            answered += 1
        except PipeloomError as error:
            if str(error).startswith(blame):  # the host's, of what breaks the contract
                return ContractFinding(WRONG, hook, str(error))
            refusals.append(str(error))
    if len(calls) == 1:
        return (
            ContractFinding(ASKS, hook, f"it asks its user: {refusals[0]}")
            if refusals
            else ContractFinding(RIGHT, hook, "its answer is as it must be")
        )
    text = f"its answers are as they must be for {answered} of {len(calls)} shapes of a small cluster"
    if not answered:
        return ContractFinding(ASKS, hook, f"it asks its user: {refusals[0]}")
    if refusals:
        return ContractFinding(RIGHT, hook, f"{text}; of others it says: {refusals[0]}")
    return ContractFinding(RIGHT, hook, text)


def _calls(config: Any, manager: Any) -> Dict[str, List[Dict[str, Any]]]:
    """For each hook that can be asked the arguments of its calls."""
    model = _model(8)
    with_config = (
        *("default_options", "tasks", "heads", "initial_distributions", "sample_fields", "executor", "lr_schedule"),
    )
    calls: Dict[str, List[Dict[str, Any]]] = {f"pipeloom_{hook}": [{"config": config}] for hook in with_config}
    calls.update({f"pipeloom_{hook}": [{}] for hook in ("commands", "prepare_kinds", "record_kinds")})
    calls["pipeloom_build_optimizer"] = [{"config": config, "parameters": list(model.parameters)}]
    memory = {"memory": lambda counts: _memory(None, counts, {})}
    calls["pipeloom_partition"] = [
        {"blocks": model.blocks, "num_stages": stages, "config": config.replace(nums_split=stages), **memory}
        for stages in (1, 2, 4)
    ]
    layouts, places = calls.setdefault("pipeloom_choose_layout", []), calls.setdefault("pipeloom_place", [])
    for nodes, devices in ((1, 2), (2, 1), (2, 2), (2, 4), (4, 2)):
        cluster = Cluster(nodes, devices, "cpu", True)
        for stages in (None, 1, 2, 4, 8):
            asked = config.replace(nums_split=stages, nnodes=nodes, nproc_per_node=devices)
            facts = {"cluster": cluster, "model": model, "config": asked, "memory": _memory}
            if stages is None or cluster.size % stages == 0:
                layouts.append(facts)
            try:
                mesh = manager.hook.pipeloom_choose_layout(**facts).mesh
            except PipeloomError:
                continue
            places.append({**facts, "mesh": mesh, "config": asked.replace(nums_split=mesh.pipeline)})
    return calls


def _memory(mesh: Any, split: Sequence[int], options: Any) -> List[PredictedMemory]:
    return [PredictedMemory({"everything": 1e6}, 0.1) for _ in split]


def _model(count: int) -> ModelSpec:
    """A model of ``count`` equal blocks, which nobody builds."""
    build: Callable[[Any], Any] = lambda scope: None
    blocks = [
        Block(f"block.{number}", (ParameterSpec(f"{number}.weight", (4, 4)),), Cost(32.0, 16.0, 16.0), (), build)
        for number in range(count)
    ]
    return ModelSpec("made up", "none", tuple(blocks), {"loss": 1.0})


def describe_findings(name: str, findings: Sequence[ContractFinding]) -> str:
    """Return what ``--check`` prints."""
    width = max((len(one.hook) for one in findings), default=0)
    lines = [f"plugin '{name}'"]
    for one in findings:
        lines.append(f"  {one.state:<9}  {one.hook:<{width}}  {one.text}".rstrip())
    wrong = sum(one.state == WRONG for one in findings)
    lines.append(f"{wrong} of {len(findings)} wrong" if wrong else "nothing is wrong")
    return "\n".join(lines)
