"""``entry.py predict``: what a trained model makes of new inputs, in the way of the task that it was trained for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterable, Sequence

from pipeloom.core.contract.arguments import Parser, at_least, normalize
from pipeloom.core.contract.commands import Command
from pipeloom.core.host.calls import call
from pipeloom.plugins.commands.answer_lines import write_lines


def predict_command(arguments: Sequence[str]) -> int:
    """Predict; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    from pipeloom.plugins.libraries.huggingface.loaded import LoadedModel, choose_task, offered
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained

    arguments = [normalize(argument) for argument in arguments]
    first = Parser(add_help=False)
    _add_arguments(first, required=False)
    selected, _ = first.parse_known_args(arguments)
    path = selected.checkpoint
    folder = open_pretrained(path, "--checkpoint", needs_settings=False) if path is not None else None
    plugins = [name.strip() for name in (selected.plugins or "").split(",") if name.strip()]
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    if folder is None and selected.task is None and {"--help", "-h"} & set(arguments):
        Parser(prog="entry.py predict", parents=[first], description=_help(offered(None, plugins)[0])).parse_args(
            ["-h"]
        )
    name, predictor, whose = choose_task(folder, selected.task, plugins, flags)

    parser = Parser(
        prog="entry.py predict",
        description=f"What a trained model answers. The task here is '{name}'; with --checkpoint it is that of the "
        "model, whose options follow those of the command.",
    )
    _add_arguments(parser, required=True)
    where = f"predict of its task '{name}'"
    call(whose, where, predictor.add_arguments, parser.add_argument_group(name))
    options = parser.parse_args(arguments)
    found = LoadedModel(folder, name, plugins, options.batch_size, options.device).run(predictor, whose, options)
    if options.output is not None:
        write_lines(Path(options.output).expanduser(), found.lines)
        print(f"{options.output}: {found.summary or f'{len(found.lines)} predictions'}")
    elif found.shown or found.lines:
        print("\n".join(found.shown or found.lines))
    return 0


def _help(tasks: Iterable[str]) -> str:
    listed = ", ".join(tasks)
    return f"What a trained model answers. Options of a task: predict --task NAME --help, of {listed or 'none'}."


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


COMMAND = Command("predict", "what a trained model answers", predict_command)
