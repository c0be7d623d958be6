"""``entry.py generate``: how a causal language model goes on with a text, also while it lies in a pipeline."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import JOB, RANK_VARIABLES
from pipeloom.core.config.core_options import add_core_options
from pipeloom.core.contract.arguments import Parser, at_least, boolean, normalize
from pipeloom.core.contract.commands import Command
from pipeloom.core.contract.options import UNSET, Option, Options

#: Options of the core that say where the model runs.
_LAYOUT = ("device", "nnodes", "nproc_per_node", "nums_split", "tensor_parallel", "master_port", "step_timeout")
#: Hooks whose plugins have such options too.
_LAYING_OUT = ("pipeloom_choose_layout", "pipeloom_partition", "pipeloom_place")


def generate_command(arguments: Sequence[str]) -> int:
    """Go on with prompts; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    arguments = [normalize(argument) for argument in arguments]
    first = Parser(add_help=False)
    _add_selection(first, required=False)
    selected, _ = first.parse_known_args(arguments)
    if selected.checkpoint is None:
        _parser(_core_layout_options()).parse_args(arguments)  # --help, or the line about what is missing
    from pipeloom.plugins.libraries.huggingface.opened_model import load_plugins
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained

    folder = open_pretrained(selected.checkpoint, "--checkpoint", needs_settings=False)
    named = [name.strip() for name in (selected.plugins or "").split(",") if name.strip()]
    manager = load_plugins(folder, named)
    layout_options = _layout_options(manager)
    options = _parser(layout_options).parse_args(arguments)
    laid_out = _lay_out(folder, manager, options, layout_options)
    if all(name in os.environ for name in (*RANK_VARIABLES, JOB)):
        return _be_rank(laid_out)
    return _start(laid_out, options, arguments)


def _parser(layout_options: Sequence[Option]) -> Parser:
    parser = Parser(
        prog="entry.py generate",
        description="How a causal language model goes on with a text: by its likeliest tokens, or by drawn ones.",
    )
    _add_selection(parser, required=True)
    _add_arguments(parser)
    group = parser.add_argument_group("where the model runs (one process, unless it is said otherwise)")
    for option in layout_options:
        metavar = getattr(option.type, "metavar", option.type.__name__.upper())
        group.add_argument(
            f"--{option.name}", metavar=metavar, default=argparse.SUPPRESS, help=option.help.replace("%", "%%")
        )
    return parser


def _add_selection(parser: argparse.ArgumentParser, required: bool) -> None:
    add = parser.add_argument
    add(
        "--checkpoint",
        required=required,
        metavar="PATH",
        help="a checkpoint (also RUN@best, RUN@last, RUN@120), a run directory (its newest checkpoint) or a "
        "HuggingFace folder",
    )
    add("--plugins", metavar="A,B", help="plugins beside those that a checkpoint was made with: a strategy")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help='what the text begins with; "" begins with the end token')
    add("--input", metavar="FILE", help='many prompts: lines of text, or JSON lines {"prompt": ..., "id": ...}')
    add("--output", metavar="FILE", help="where the texts go, as JSON lines [printed]")
    add("--max_new_tokens", type=at_least(1), default=64, metavar="N", help="tokens behind a prompt at most [64]")
    add("--temperature", type=float, metavar="X", help="draw tokens, with logits divided by X [0: take the likeliest]")
    add("--top_k", type=at_least(1), metavar="K", help="draw from the K likeliest tokens")
    add("--top_p", type=float, metavar="P", help="draw from the fewest likeliest tokens that have probability P")
    add("--seed", type=at_least(0), metavar="N", help="of the draws [1234]")
    add("--batch_size", type=at_least(1), default=8, metavar="N", help="prompts at once [8]")
    add(
        "--use_cache",
        type=boolean,
        default=True,
        metavar="{true,false}",
        help="keep what attention needs of earlier tokens; false reads all of them again for each new one [true]",
    )
    add("--task", metavar="NAME", help="the task whose head goes on [what the model was trained for, else causal_lm]")
    add("--vocab", metavar="PATH", help="tokenizer files, for a checkpoint whose data had none beside it")


def _core_layout_options() -> List[Option]:
    options = Options()
    add_core_options(options)
    return [option for option in options if option.name in _LAYOUT]


def _layout_options(manager: Any) -> List[Option]:
    """The options that say where the model runs: of the core, and of the plugins that lay out."""
    owners = {one.plugin_name for hook in _LAYING_OUT for one in manager.implementations(hook)}
    return [option for option in manager.options() if option.name in _LAYOUT or option.owner in owners]


def _lay_out(folder: Any, manager: Any, options: argparse.Namespace, layout_options: Sequence[Option]) -> Any:
    """Build the model and decide where it runs. Raises ``UsageError`` for one that cannot go on with a text."""
    from pipeloom.core.config.origins import origins_in_errors
    from pipeloom.core.host.calls import blaming
    from pipeloom.core.planning.clusters import resolve_cluster
    from pipeloom.core.planning.planner import lay_out
    from pipeloom.plugins.libraries.generation.worker import LaidOutModel
    from pipeloom.plugins.libraries.huggingface.opened_model import OpenedModel, trained_task

    flags = {
        option.name: option.parse(getattr(options, option.name), f"--{option.name}")
        for option in layout_options
        if hasattr(options, option.name)
    }
    facts = {one.name: one.single_process for one in manager.options() if one.single_process is not UNSET}
    alone = {**facts, "device": "auto", "node_rank": None, "interface": None}
    if {"nnodes", "nproc_per_node"} & flags.keys():
        alone["nums_split"] = None  # as for training, two stages where that divides
        manager.require("pipeloom_place")
    opened = OpenedModel.open(
        folder,
        manager,
        options.task or trained_task(folder) or "causal_lm",
        ("input_ids",),
        ("generate", alone),
        ("flags", flags),
        seq_length=8,  # that of samples, of which there are none
    )
    config, model = opened.config, opened.model
    if not model.decoded:
        raise folder.error(f"the model '{model.name}' with the task '{model.task}' cannot go on with a text")
    with origins_in_errors(config), blaming(manager):
        cluster = resolve_cluster(config)
        return LaidOutModel(opened, cluster, lay_out(config, manager, cluster, model))


def _be_rank(laid_out: Any) -> int:
    from pipeloom.core.launch.rank import run_rank
    from pipeloom.plugins.libraries.generation.worker import Desk, work

    return run_rank(lambda: work(laid_out, Desk.from_environment(os.environ)))


def _start(laid_out: Any, options: argparse.Namespace, arguments: List[str]) -> int:
    from pipeloom.core.launch.launcher import LaunchSpec, free_port, launch
    from pipeloom.core.launch.processes import own_command
    from pipeloom.plugins.libraries.generation.worker import Desk

    opened, cluster = laid_out.opened, laid_out.cluster
    opened.check_weights()
    prompts = _prompts(options)
    tokenizer = _tokenizer(opened.folder, options, prompts)
    settings = _settings(opened, options, tokenizer)
    ids = [_ids(prompt, tokenizer, settings) for prompt in prompts]
    with tempfile.TemporaryDirectory(prefix="pipeloom-generate-") as folder:
        desk = Desk(Path(folder))
        desk.put_job(ids, settings)
        code = launch(
            LaunchSpec(
                # The checkpoint by its own name: a run may write a newer one meanwhile.
                command=[*own_command(), "generate", *arguments, "--checkpoint", str(opened.folder.path)],
                ranks=list(range(cluster.size)),
                world_size=cluster.size,
                nproc_per_node=cluster.devices_per_node,
                master_addr="127.0.0.1",
                master_port=opened.config.master_port or free_port(),
                log_dir=Path(folder),
                job_text=lambda resume: desk.job_text(),
                step_timeout=opened.config.step_timeout,
            )
        )
        found, seconds = desk.found()
    if found or code == 0:
        _show(options, prompts, ids, found, seconds, tokenizer)
    return code


def _settings(opened: Any, options: argparse.Namespace, tokenizer: Optional[Any]) -> Any:
    from pipeloom.plugins.libraries.generation.decoding_loop import LoopSettings

    sizes, end = opened.model.sizes, opened.folder.config.get("eos_token_id")
    if type(end) is not int or not 0 <= end < sizes["vocab"]:
        end = tokenizer.special_id("eos") if tokenizer is not None else None
    return LoopSettings(
        _sampling(options),
        options.max_new_tokens,
        sizes["positions"],
        sizes["vocab"],
        end,
        options.batch_size,
        options.use_cache,
    )


def _sampling(options: argparse.Namespace) -> Any:
    from pipeloom.plugins.libraries.generation.sampling import Sampling

    given = [name for name in ("top_k", "top_p", "seed") if getattr(options, name) is not None]
    temperature = options.temperature
    if temperature is None:
        temperature = 1.0 if {"top_k", "top_p"} & set(given) else 0.0
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"--temperature {temperature:g}: give 0 (the likeliest tokens) or a positive number")
    if temperature == 0 and given:
        raise UsageError(f"--{given[0]} is for draws, and tokens are the likeliest ones: give --temperature 1 too")
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise UsageError(f"--top_p {options.top_p:g}: give a probability, more than 0 and at most 1")
    if options.seed is not None and options.seed >= 2**64:
        raise UsageError("--seed must be less than 2**64")
    seed = Sampling.seed if options.seed is None else options.seed
    return Sampling(temperature, options.top_k or 0, 1.0 if options.top_p is None else options.top_p, seed)


def _prompts(options: argparse.Namespace) -> List[Any]:
    from pipeloom.core.base.characters import whole
    from pipeloom.plugins.libraries.generation.prompts import Prompt, read_prompts

    if (options.prompt is None) == (options.input is None):
        raise UsageError("give a text with --prompt, or a file with many as --input; one of the two")
    if options.prompt is not None:
        return [Prompt(whole(options.prompt))]
    return read_prompts(Path(options.input).expanduser())


def _tokenizer(folder: Any, options: argparse.Namespace, prompts: Sequence[Any]) -> Optional[Any]:
    """Load the model's tokenizer; ``None`` for one without, where all prompts are ids."""
    from pipeloom.plugins.libraries.huggingface.source import vocabulary_for
    from pipeloom.plugins.libraries.text.tokenizer_files import has_tokens

    if options.vocab is None and not has_tokens(folder.path) and all(prompt.ids is not None for prompt in prompts):
        return None
    return vocabulary_for(folder, options.vocab, None).load()


def _ids(prompt: Any, tokenizer: Optional[Any], settings: Any) -> List[int]:
    """Return the tokens of a prompt. Raises ``UsageError`` for ones that the model cannot read."""
    ids = prompt.ids if tokenizer is None or prompt.ids is not None else tokenizer.encode(prompt.text)
    if not ids and settings.end is None:
        raise UsageError(f"{prompt.where}: it has no tokens, and the model no end token to begin with: give some text")
    ids = ids or [settings.end]
    beyond = [number for number in ids if not 0 <= number < settings.vocab]
    if beyond:
        raise UsageError(f"{prompt.where}: token {beyond[0]} is none of the model's: it has 0 to {settings.vocab - 1}")
    if len(ids) > settings.positions:
        raise UsageError(
            f"{prompt.where}: it has {len(ids)} tokens, the model has {settings.positions} positions: shorten it"
        )
    return ids


def _show(
    options: argparse.Namespace,
    prompts: Sequence[Any],
    ids: Sequence[Sequence[int]],
    found: Mapping[int, Any],
    seconds: float,
    tokenizer: Optional[Any],
) -> None:
    """Print or write what was found, and say how fast, and what ended where the model has no more positions."""
    from pipeloom.plugins.commands.answer_lines import write_lines
    from pipeloom.plugins.libraries.generation.decoding_loop import POSITIONS

    whole_texts: Dict[int, str] = {}
    lines = []
    for number in sorted(found):
        prompt, one = prompts[number], found[number]
        line: Dict[str, Any] = {} if prompt.id is None else {"id": prompt.id}
        line.update({"prompt": prompt.text} if prompt.text is not None else {"prompt_ids": prompt.ids})
        if tokenizer is not None:
            before, everything = (tokenizer.decode(part) for part in (ids[number], [*ids[number], *one.ids]))
            joined = everything.startswith(before)
            line["text"] = everything[len(before) :] if joined else tokenizer.decode(one.ids)
            whole_texts[number] = everything if prompt.text is None or joined else prompt.text + line["text"]
        lines.append(json.dumps({**line, "ids": one.ids, "ended": one.ended}, ensure_ascii=False))
    if options.output is not None:
        write_lines(Path(options.output).expanduser(), lines)
    elif options.prompt is not None and whole_texts:
        print(whole_texts[0])
    else:
        print("\n".join(lines))
    tokens = sum(len(one.ids) for one in found.values())
    where = f"{options.output}: " if options.output is not None else ""
    print(f"{where}{tokens} tokens in {seconds:.2f} s ({tokens / max(seconds, 1e-9):.1f} a second)", file=sys.stderr)
    short = [number for number in sorted(found) if found[number].ended == POSITIONS]
    if short:
        print(
            f"pipeloom: warning: {prompts[short[0]].where}{' and others' if len(short) > 1 else ''}: the text ends "
            "where the model has no more positions, before --max_new_tokens",
            file=sys.stderr,
        )


COMMAND = Command("generate", "go on with a text by a causal language model", generate_command)
