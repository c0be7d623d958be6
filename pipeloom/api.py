"""pipeloom from Python: ``from pipeloom import Config, train, plan, load``, for notebooks and tests.

What the command line does (``core/commands/request.py``, ``train.py``), by the same functions: options are named as
flags and mean the same. What goes wrong raises ``UsageError`` or ``RunError`` with the line that a command would print.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Union

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.request import Request, Resolved, resolve_request
from pipeloom.core.config import config as configs
from pipeloom.core.host.builtin import builtin, use_builtin
from pipeloom.plugins import TABLE

if TYPE_CHECKING:
    from pipeloom.core.planning.plan import Plan
    from pipeloom.plugins.libraries.huggingface.loaded import LoadedModel

#: A configuration, or the YAML file of one, or nothing: then options alone.
Configuration = Union[None, str, Path, "Config"]


class Config(configs.Config):
    """The checked options of a run: ``Config(plugins=["inter_first", "bert", "wiki_ofrecord"], train_steps=20)``.

    ``config`` is a YAML file, which ``plugins`` and ``options`` override. Values are attributes
    (``config.seq_length``); ``to_yaml()`` is a file that ``--config`` takes. Raises ``UsageError``.
    """

    def __init__(
        self, config: Configuration = None, plugins: Union[None, str, Sequence[str]] = None, **options: Any
    ) -> None:
        if isinstance(config, Config):
            asked = config.__dict__["_asked"]
            config, plugins = asked["config"], asked["plugins"] if plugins is None else plugins
            options = {**asked["options"], **options}
        if not builtin().selectable:
            use_builtin(TABLE)
        file = os.fspath(config) if config is not None else None
        resolved = resolve_request(Request(plugins, file=file, options=options))
        self.__dict__.update(resolved.config.__dict__)
        self.__dict__["_asked"] = {"config": config, "plugins": plugins, "options": options}
        self.__dict__["resolved"] = resolved

    def replace(self, **changes: Any) -> "Config":
        """A copy with some options given otherwise, checked as all are. Raises ``UsageError``."""
        return Config(self, **changes)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.declared if name in self.given)
        return f"Config(plugins={list(self.plugins)!r}{', ' if given else ''}{given})"


@dataclass(frozen=True)
class TrainingResult:
    """What a run left in its ``directory``.

    ``metrics`` and ``evaluations``: an object for each logged step and each evaluation, as metrics.jsonl and
    evaluation.jsonl have them (none where the plugin jsonl is left out). ``checkpoint`` is the last one, ``best`` that
    of the best evaluation; ``None`` where there is none.
    """

    directory: Path
    metrics: List[Dict[str, Any]] = field(repr=False)
    evaluations: List[Dict[str, Any]] = field(repr=False)
    checkpoint: Optional[Path]
    best: Optional[Path]

    @property
    def losses(self) -> List[float]:
        """The loss of each logged step."""
        return [line["loss"] for line in self.metrics]

    @property
    def evaluation(self) -> Dict[str, Any]:
        """The last evaluation; empty where there was none."""
        return self.evaluations[-1] if self.evaluations else {}


def plan(config: Configuration = None, plugins: Union[None, str, Sequence[str]] = None, **options: Any) -> "Plan":
    """Return the checked plan of a run: layout, blocks, partition, placement; no engine is started.

    Takes what ``Config`` takes, or one. ``print(plan(...).report())`` is what a run says of it. Raises ``UsageError``.
    """
    from pipeloom.core.config.origins import origins_in_errors
    from pipeloom.core.host.calls import blaming
    from pipeloom.core.planning.planner import make_plan

    resolved = _resolved(config, plugins, options)
    with origins_in_errors(resolved.config), blaming(resolved.plugins):
        return make_plan(resolved.config, resolved.plugins)


def train(
    config: Configuration = None, plugins: Union[None, str, Sequence[str]] = None, **options: Any
) -> TrainingResult:
    """Train as the command does, in ranks of their own, and return what the run left.

    Takes what ``Config`` takes, or one. To be called in the main thread; Ctrl-C saves, ends the ranks and raises
    ``KeyboardInterrupt``. Raises ``UsageError`` and ``RunError``, where a rank has failed with what it said in ``logs``
    of the run directory.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RunError("train() starts ranks and listens to signals, which the main thread alone can: call it there")
    from pipeloom.core.commands.train import train_by_ranks

    resolved = _resolved(config, plugins, options)
    # Ranks find what this process finds, wherever it was started: a checkout, plugins beside a notebook.
    path = os.pathsep.join(dict.fromkeys(os.path.abspath(entry) for entry in [_root(), *sys.path]))
    command = [sys.executable, "-m", "pipeloom", "train"]
    outcome = train_by_ranks(resolved.config, resolved.plugins, command, resolved.resumed, {"PYTHONPATH": path})
    _raise_for(outcome)
    return result_of(outcome.directory)


def result_of(directory: Union[str, Path]) -> TrainingResult:
    """Return what the run in ``directory`` has left so far."""
    from pipeloom.core.checkpoint.store import FOLDER, Store

    directory = Path(directory)
    store = Store(directory / FOLDER)
    best = (store.best() or {}).get("checkpoint")
    metrics, evaluations = (_lines(directory / name) for name in ("metrics.jsonl", "evaluation.jsonl"))
    return TrainingResult(
        directory,
        metrics,
        evaluations,
        next(reversed(store.checkpoints()), None),
        store.directory / best if best is not None else None,
    )


def load(path: Union[str, Path], task: Optional[str] = None, **settings: Any) -> "LoadedModel":
    """Return a trained model: a checkpoint (``RUN@best``), a run directory, or a HuggingFace folder.

    ``settings``: ``plugins`` beside its own, ``batch_size``, ``device``. Raises ``UsageError``.
    """
    from pipeloom.plugins.libraries.huggingface.loaded import load_model

    if not builtin().selectable:
        use_builtin(TABLE)
    return load_model(os.fspath(path), task, **settings)


def _resolved(config: Any, plugins: Any, options: Mapping[str, Any]) -> Resolved:
    if isinstance(config, Config) and plugins is None and not options:
        return config.__dict__["resolved"]
    return Config(config, plugins, **options).__dict__["resolved"]


def _root() -> str:
    """The folder that ``pipeloom`` is imported from."""
    return str(Path(__file__).resolve().parents[1])


def _raise_for(outcome: Any) -> None:
    """Raise what the exit code of a job means."""
    code, directory = outcome.exit_code, outcome.directory
    if code == 0:
        return
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code > 128:
        name = signal.Signals(code - 128).name
        raise RunError(f"the run was ended by {name}; train(resume={str(directory)!r}) goes on with it")
    reason = outcome.reason or "a rank has failed, and said above why"
    raise (UsageError if code == UsageError.exit_code else RunError)(f"{reason}; logs: {directory / 'logs'}")


def _lines(file: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
