"""A trained model by its path: what its task is, what it predicts of new inputs, and its outputs of samples."""

from __future__ import annotations

import argparse
import json
from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.arguments import Parser
from pipeloom.core.contract.tasks import Predictions, Predictor, TrainedModel
from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.core.host.calls import call
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.plugins.libraries.huggingface import predicting
from pipeloom.plugins.libraries.huggingface.opened_model import plugins_of, trained_task
from pipeloom.plugins.libraries.huggingface.source import open_pretrained, vocabulary_for


class LoadedModel(TrainedModel):
    """The model of a checkpoint, a run or a HuggingFace folder, which computes when outputs are asked for."""

    def __init__(
        self, folder: Any, task: str, plugins: Sequence[str] = (), batch_size: int = 16, device: str = "auto"
    ) -> None:
        self.path, self.task = folder.path, task
        self._folder, self._plugins, self._batch_size, self._device = folder, list(plugins), batch_size, device

    def __repr__(self) -> str:
        return f"<LoadedModel {self.path} for {self.task}>"

    @property
    def config(self) -> Mapping[str, Any]:
        return self._folder.config

    def setting(self, name: str, kind: type) -> Any:
        return self._folder.setting(name, kind)

    def vocabulary(self, path: Optional[str] = None, lowercase: Optional[bool] = None) -> TokenizerSource:
        return vocabulary_for(self._folder, path, lowercase)

    def outputs(
        self,
        fields: Mapping[str, np.ndarray],
        seq_length: Optional[int] = None,
        high: Mapping[str, int] = MappingProxyType({}),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Dict[str, np.ndarray]:
        """Return the outputs of the task's head for samples, as ``TrainedModel`` has it; ``seq_length`` is by default
        the longest of the fields."""
        return predicting.predict(
            str(self.path),
            self.task,
            fields,
            self._batch_size,
            plugins=self._plugins,
            device=self._device,
            seq_length=seq_length,
            high=high,
            settings=settings,
        )

    def predictions(self, **options: Any) -> List[Any]:
        """Return what ``predict`` answers for the options of the model's task (``question="..."``): an object for each
        input.

        A list is an option that is given several values, ``True`` one that takes none. Raises ``UsageError``.
        """
        name, predictor, whose = choose_task(self._folder, self.task, self._plugins)
        where = f"predict of its task '{name}'"
        parser = Parser(prog="predictions", add_help=False)
        call(whose, where, predictor.add_arguments, parser)
        return [
            json.loads(line) for line in self.run(predictor, whose, parser.parse_args(_given(parser, options))).lines
        ]

    def run(self, predictor: Predictor, whose: str, options: argparse.Namespace) -> Predictions:
        """Return what ``predictor`` answers; a fault of its plugin is a line that begins with ``whose``."""
        return call(whose, f"predict of its task '{self.task}'", predictor.run, options, self)


def load_model(
    path: str, task: Optional[str] = None, plugins: Sequence[str] = (), batch_size: int = 16, device: str = "auto"
) -> LoadedModel:
    """Open a checkpoint, a run directory or a HuggingFace folder. ``task``: by default what it was trained for.

    ``plugins`` are needed besides those of its run. Raises ``UsageError``.
    """
    folder = open_pretrained(path, "--checkpoint", needs_settings=False)
    return LoadedModel(folder, choose_task(folder, task, plugins)[0], plugins, batch_size, device)


#: Of a task by name what predicts it, and how messages call its plugin.
Offers = Mapping[str, Tuple[Predictor, str]]


def offered(folder: Optional[Any], plugins: Sequence[str]) -> Tuple[Offers, Optional[str]]:
    """Return what can be predicted, and which of it the checkpoint ``folder`` was trained for."""
    manager = PluginManager()
    known = None
    if folder is not None:
        manager.load(dict.fromkeys([*plugins_of(folder), *plugins]))
        known = trained_task(folder)
    else:
        manager.load(plugins)
    offers = {
        task.name: (task.predict, manager.whose(plugin))
        for plugin, tasks in manager.hook.pipeloom_tasks.answers(config=None)
        for task in tasks
        if task.predict is not None
    }
    return offers, known


def choose_task(
    folder: Optional[Any], asked: Optional[str], plugins: Sequence[str], flags: Sequence[str] = ()
) -> Tuple[str, Predictor, str]:
    """Return the task to predict, what predicts it, and how messages call its plugin.

    By what is ``asked`` for, else that of the checkpoint, else the one whose head a HuggingFace folder has, or that is
    the only one, or has the most of these ``flags`` (``"--text"``). Raises ``UsageError``.
    """
    offers, known = offered(folder, plugins)
    name = asked or known
    if name is None and folder is not None:
        architecture = str((folder.config.get("architectures") or [""])[0])
        name = _only(task for task, (one, _) in offers.items() if architecture.endswith(one.architecture or "\0"))
    if name is None:
        known_flags = {task: len(set(flags) & _flags_of(task, *offer)) for task, offer in offers.items()}
        most = max(known_flags.values(), default=0)
        name = _only(task for task, number in known_flags.items() if number == most)
    if name is None:
        raise UsageError(f"--task is missing: what to predict ({', '.join(offers) or 'no plugin can'})")
    if name not in offers:
        which = f"--task {asked}" if asked or folder is None else f"--checkpoint {folder.path}"
        raise UsageError(
            f"{which}: nothing is predicted for the task '{name}'{did_you_mean(name, offers)}; "
            f"there is: {', '.join(offers) or 'none'}"
        )
    return (name, *offers[name])


def _only(names: Iterable[str]) -> Optional[str]:
    found = list(names)
    return found[0] if len(found) == 1 else None


def _flags_of(task: str, predictor: Predictor, whose: str) -> Set[str]:
    parser = Parser(add_help=False)
    call(whose, f"predict of its task '{task}'", predictor.add_arguments, parser)
    return {flag for action in parser._actions for flag in action.option_strings}


def _given(parser: argparse.ArgumentParser, options: Mapping[str, Any]) -> List[str]:
    """``options`` as arguments of ``parser``. Raises ``UsageError`` for one that it does not have."""
    known = {action.dest: action for action in parser._actions if action.option_strings}
    arguments: List[str] = []
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"no option '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}")
        flag = known[name].option_strings[-1]
        if known[name].nargs == 0:
            arguments += [flag] if value else []
        elif isinstance(value, (list, tuple)):
            arguments += [flag, *map(str, value)]
        elif value is not None:
            arguments.append(f"{flag}={value}")
    return arguments
