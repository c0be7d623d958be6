"""``entry.py predict``: what a trained model makes of new inputs, in the way of the task that it was trained for."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError, UsageError, did_you_mean
from pipeloom.core.base.output import ESCAPE
from pipeloom.core.contract.arguments import Parser, at_least, normalize
from pipeloom.core.contract.commands import Command
from pipeloom.core.contract.tasks import Predictor, TrainedModel
from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.core.host.calls import call
from pipeloom.core.host.plugin_manager import PluginManager


def predict_command(arguments: Sequence[str]) -> int:
    """Predict; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    arguments = [normalize(argument) for argument in arguments]
    first = Parser(add_help=False)
    _add_arguments(first, required=False)
    selected, _ = first.parse_known_args(arguments)
    folder = _opened(selected.checkpoint) if selected.checkpoint is not None else None
    plugins = [name.strip() for name in (selected.plugins or "").split(",") if name.strip()]
    name, predictor, whose = _choose(folder, selected.task, plugins)

    parser = Parser(
        prog="entry.py predict",
        description=f"What a trained model answers. The task here is '{name}'; with --checkpoint it is that of the "
        "model, whose options follow those of the command.",
    )
    _add_arguments(parser, required=True)
    where = f"predict of its task '{name}'"
    call(whose, where, predictor.add_arguments, parser.add_argument_group(name))
    options = parser.parse_args(arguments)
    found = call(whose, where, predictor.run, options, _Model(folder, name, plugins, options))
    if options.output is not None:
        _write(Path(options.output).expanduser(), found.lines)
        print(f"{options.output}: {found.summary or f'{len(found.lines)} predictions'}")
    elif found.shown or found.lines:
        print("\n".join(found.shown or found.lines))
    return 0


def _add_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    add = parser.add_argument
    add(
        "--checkpoint",
        required=required,
        metavar="PATH",
        help="a checkpoint (also RUN@best, RUN@last, RUN@120), a run directory (its newest checkpoint) or a "
        "HuggingFace folder",
    )
    add("--task", metavar="NAME", help="what to predict [what the model was trained for]")
    add("--plugins", metavar="A,B", help="plugins beside those that a checkpoint was made with")
    add("--output", metavar="FILE", help="where the answers go, as JSON lines [printed]")
    add("--batch_size", type=at_least(1), default=16, metavar="N", help="inputs at once [16]")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        metavar="{auto,cpu,cuda}",
        help="where the model computes [auto: on the first GPU, if there is one]",
    )


def _opened(path: str) -> Any:
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained

    return open_pretrained(path, "--checkpoint", needs_settings=False)


def _choose(folder: Optional[Any], asked: Optional[str], plugins: Sequence[str]) -> Tuple[str, Predictor, str]:
    """Return the task to predict, what predicts it, and how messages call its plugin.

    By ``--task``, else that of the checkpoint, else the one whose head a HuggingFace folder has, or that is the only
    one. Raises ``UsageError``.
    """
    manager = PluginManager()
    config, known = None, None
    if folder is not None:
        from pipeloom.plugins.libraries.huggingface.predicting import plugins_of, trained_task

        manager.load(dict.fromkeys([*plugins_of(folder), *plugins]))
        known = trained_task(folder)
    else:
        manager.load(plugins)
    offers = {
        task.name: (task.predict, manager.whose(plugin))
        for plugin, tasks in manager.hook.pipeloom_tasks.answers(config=config)
        for task in tasks
        if task.predict is not None
    }
    name = asked or known
    if name is None and folder is not None:
        architecture = str((folder.config.get("architectures") or [""])[0])
        fitting = [
            task for task, (one, _) in offers.items() if one.architecture and architecture.endswith(one.architecture)
        ]
        name = fitting[0] if len(fitting) == 1 else None
    if name is None and len(offers) == 1:
        name = next(iter(offers))
    if name is None:
        raise UsageError(f"--task is missing: what to predict ({', '.join(offers) or 'no plugin can'})")
    if name not in offers:
        which = f"--task {asked}" if asked or folder is None else f"--checkpoint {folder.path}"
        raise UsageError(
            f"{which}: nothing is predicted for the task '{name}'{did_you_mean(name, offers)}; "
            f"there is: {', '.join(offers) or 'none'}"
        )
    return (name, *offers[name])


class _Model(TrainedModel):
    """The model that ``--checkpoint`` names, which computes when outputs are asked for."""

    def __init__(self, folder: Any, task: str, plugins: Sequence[str], options: argparse.Namespace) -> None:
        self._folder, self._task, self._plugins, self._options = folder, task, plugins, options
        self.path = folder.path

    def setting(self, name: str, kind: type) -> Any:
        return self._folder.setting(name, kind)

    def vocabulary(self, path: Optional[str] = None, lowercase: Optional[bool] = None) -> TokenizerSource:
        from pipeloom.plugins.libraries.huggingface.source import vocabulary_for

        return vocabulary_for(self._folder, path, lowercase)

    def outputs(
        self, fields: Mapping[str, np.ndarray], seq_length: int, high: Mapping[str, int] = MappingProxyType({})
    ) -> Dict[str, np.ndarray]:
        from pipeloom.plugins.libraries.huggingface.predicting import predict

        options = self._options
        return predict(
            str(self.path),
            self._task,
            fields,
            options.batch_size,
            plugins=self._plugins,
            device=options.device,
            seq_length=seq_length,
            high=high,
        )


def _write(path: Path, lines: Sequence[str]) -> None:
    from pipeloom.core.base.files import replace_file

    content = ("\n".join(lines) + "\n").encode("utf-8", ESCAPE)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a device or a pipe, which must not be replaced by a file
        else:
            replace_file(path.resolve(), content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


COMMAND = Command("predict", "what a trained model answers", predict_command)
