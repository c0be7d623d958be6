"""The plugin under test, and the run around it: the plugins that complete it, small sizes, and what a plan makes."""

from __future__ import annotations

import importlib
import inspect
from functools import cached_property
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from pipeloom.core.base.errors import PipeloomError, UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.config.config import Config
from pipeloom.core.contract.hookspecs import ONE_ANSWER
from pipeloom.core.contract.tasks import Task
from pipeloom.core.host.builtin import builtin, use_builtin
from pipeloom.core.host.plugin_manager import PluginManager, hooks_of, load_plugin
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.planner import make_plan

#: Sizes of the run around a plugin, of options that its plugins declare and the user did not give.
SMALL: Mapping[str, Any] = MappingProxyType(
    {
        "train_global_batch_size": 8,
        "train_steps": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "warmup_steps": 1,
    }
)
ONE_DEVICE = ("--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1", "--tensor_parallel", "1")
#: What completes a selection that lacks it, in this order.
_NEEDED = ("pipeloom_place", "pipeloom_build_model", "pipeloom_open_dataset")


class Subject:
    """A plugin under test: the first of ``selection``, whose others complete its run, as ``--plugins`` has them.

    ``options`` are flags of that run. What the selection lacks of strategy, model and dataset comes from the built-in
    plugins: the first ones with which a plan can be made. Nothing is loaded before it is asked for.
    """

    def __init__(self, selection: str, options: Sequence[str] = ()) -> None:
        if not any(builtin().selectable):
            from pipeloom.plugins import TABLE

            use_builtin(TABLE)
        self.selected = [name.strip() for name in selection.split(",") if name.strip()]
        if not self.selected:
            raise UsageError("name the plugin to check: --pipeloom NAME")
        self.name, self.options = self.selected[0], tuple(map(str, options))
        #: What runs of training left, by how they were made: those that several checks compare with.
        self.trained: Dict[Tuple[str, ...], Any] = {}

    @cached_property
    def plugin(self) -> Any:
        """The module or object itself. Raises ``UsageError``."""
        if self.name in builtin().defaults:
            return importlib.import_module(builtin().defaults[self.name])
        return load_plugin(self.name)[0]

    @cached_property
    def hooks(self) -> Tuple[str, ...]:
        """The hooks that it has."""
        return tuple(hooks_of(self.plugin))

    def hook(self, name: str, **arguments: Any) -> Any:
        """Call its own function for the hook ``name``, past the host: what it raises, passes."""
        function = self._functions[name]
        wanted = inspect.signature(function).parameters
        return function(**{key: value for key, value in arguments.items() if key in wanted})

    @cached_property
    def _functions(self) -> Dict[str, Any]:
        """Its functions by the hooks that they are for, whatever they are called."""
        found = {}
        for name in dir(self.plugin):
            value = getattr(self.plugin, name, None)
            marked = getattr(value, "pipeloom_impl", None)
            if marked and not (marked.get("hookwrapper") or marked.get("wrapper")):
                found[marked.get("specname") or name] = value
        return found

    # --- the run around it

    @cached_property
    def _completed(self) -> Tuple[List[str], Config, PluginManager, Plan]:
        """The whole selection with which a plan can be made, and the plan, on one device."""
        faults: List[str] = []
        for names in self._selections():
            try:
                config, plugins = self.parse(names, *ONE_DEVICE)
                return names, config, plugins, make_plan(config, plugins)
            except UsageError as error:
                faults.append(str(error))
        others = f"; nor with other built-in plugins beside it: name those that it needs ({self.name},OTHERS)"
        raise UsageError(faults[0] + others * (len(faults) > 1))

    @cached_property
    def fault(self) -> str:
        """Why no run can be planned with it; "" where one can."""
        try:
            assert self.hooks and self.plan
        except PipeloomError as error:
            return str(error)
        return ""

    def _selections(self) -> List[List[str]]:
        selected = [name for name in self.selected if name not in builtin().defaults]
        hooks = {hook for name in selected for hook in hooks_of(load_plugin(name)[0])}
        found: List[List[str]] = [selected]
        for hook in _NEEDED:
            if hook not in hooks:
                able = [name for name in builtin().selectable if hook in hooks_of(load_plugin(name)[0])]
                able = able[:1] if hook == "pipeloom_place" else able
                found = [[*names, name] for names in found for name in able]
        return found

    def parse(self, names: Sequence[str], *flags: str) -> Tuple[Config, PluginManager]:
        """Resolve the configuration of a small run with the plugins ``names``; ``flags`` count most."""
        manager = PluginManager()
        manager.load(names)
        given = {flag.partition("=")[0].lstrip("-") for flag in (*self.options, *flags) if flag.startswith("--")}
        declared = manager.options()
        small = [
            part
            for name, value in SMALL.items()
            if name in declared and not {name, *declared.get(name).aliases} & given
            for part in (f"--{name}", str(value))
        ]
        return parse(["--plugins", ",".join(names), *small, *self.options, *flags])

    @property
    def names(self) -> List[str]:
        """All plugins of the run."""
        return self._completed[0]

    @property
    def plugins(self) -> PluginManager:
        return self._completed[2]

    @property
    def plan(self) -> Plan:
        """The plan on one device, with dataset and model."""
        return self._completed[3]

    @property
    def config(self) -> Config:
        return self.plan.config

    @property
    def task(self) -> Task:
        return find_task(self.plugins, self.config, self.plan.dataset.task)

    def refusal(self, *flags: str) -> str:
        """What a plan with ``flags`` is refused by; "" where it is not."""
        try:
            config, plugins = self.parse(self.names, *flags)
            make_plan(config, plugins)
        except PipeloomError as error:
            return str(error)
        return ""

    def answers(self, hook: str) -> bool:
        """Whether its own answer to a one-answer hook counts in its run."""
        assert hook in ONE_ANSWER
        return hook in self.hooks and self.plugins.who_answers(hook) == self.name
