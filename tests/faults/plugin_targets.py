"""What the fuzzer reads of plugins: a file with a strategy, an option and a schedule, loaded and asked for a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from mutations import Files, Mutation, Target

from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.planner import make_plan

NAME = "mine.py"
SOURCE = '''\
"""mine: stages dealt out from the last rank to the first."""
import pipeloom
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.schedule import LRSchedule
from pipeloom.core.contract.topology import Mesh


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("stride", int, 1, help="ranks between two of a stage", section="mine", minimum=1)


@pipeloom.hookimpl
def pipeloom_choose_layout(cluster, config):
    return Mesh(pipeline=2, data=cluster.size // 2)


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config):
    return [len(blocks) - num_stages + 1] + [1] * (num_stages - 1)


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    width = cluster.size // mesh.pipeline
    ranks = list(reversed(range(cluster.size)))
    return Placement.of(cluster, [ranks[s * width:(s + 1) * width] for s in range(mesh.pipeline)])


@pipeloom.hookimpl
def pipeloom_lr_schedule(config):
    return LRSchedule(1e-3, "constant", 0, config.train_steps)
'''

_ANSWERS: List[str] = [
    "None",
    "0",
    "-1",
    "1.5",
    "float('nan')",
    "''",
    "'x'",
    "[]",
    "{}",
    "()",
    "[0]",
    "[[0, 1], [2, 3]]",
    "[[0], [1]]",
    "[1, 1, 1, 1]",
    "[-1, 5]",
    "[1.0, 3.0]",
    "True",
    "object()",
    "len",
    "Mesh",
    "Mesh(1, 1)",
    "Mesh(0, 4)",
    "Mesh('a', None)",
    "Placement",
    "(x for x in [1, 3])",
    "iter([1, 3])",
    "1 / 0",
    "{}['a']",
    "undefined",
    "config.no_such_option",
    "blocks",
    "cluster",
    "config",
    "lambda: None",
    "range(10 ** 9)",
    "'a\\nb'",
    "b'x'",
    "(_ for _ in ()).throw(SystemExit(3))",
    "(_ for _ in ()).throw(KeyboardInterrupt())",
    "(_ for _ in ()).throw(GeneratorExit())",
    "(_ for _ in ()).throw(ValueError('a\\nb', '\\ud800'))",
    "(_ for _ in ()).throw(StopIteration())",
    "__import__('sys').exit()",
    "__import__('sys').exit('why')",
    "__import__('no_such_module')",
]
_DECORATORS: List[str] = [
    "",
    "@staticmethod",
    "@pipeloom.hookspec",
    "@pipeloom.hookimpl(tryfirst=True)",
    "@pipeloom.hookimpl(hookwrapper=True)",
    "@pipeloom.hookimpl(specname='pipeloom_place')",
    "@pipeloom.hookimpl(specname='nothing')",
    "@pipeloom.hookimp",
    "@property",
    "@__import__('functools').lru_cache()",
    "@__import__('pluggy').HookimplMarker('other')",
]
_ARGUMENTS: List[str] = [
    "",
    "self",
    "config, more",
    "*args",
    "**kwargs",
    "config=None",
    "cls, config",
    "a, b, c, d",
    "blocks",
    "cluster, mesh, config",
]
_OPTIONS: List[str] = [
    '"config", int, 1',
    '"help", int, 1',
    '"plugins", str, None',
    '"set", str, None',
    '"strategy", str, None',
    '"seed", int, 1',
    '"", int, 1',
    '"two words", int, 1',
    '"Upper", int, 1',
    '"1st", int, 1',
    '"with-dash", int, 1',
    '"class", int, 1',
    '"replace", int, 1',
    '"to_dict", int, 1',
    '"__init__", int, 1',
    '"x" * 3000, int, 1',
    '"ü", int, 1',
    '"a\\nb", int, 1',
    "None, int, 1",
    "7, int, 1",
    '"o", list, 1',
    '"o", None, 1',
    '"o", int, "x"',
    '"o", bool, 2',
    '"o", "int", 1',
    '"o", int',
    '"o"',
    "",
    '"o", int, 1, "positional help"',
    '"o", int, 1, colour="red"',
    '"o", str, "c", choices=("a", "b")',
    '"o", str, "a", choices=()',
    '"o", int, 5, minimum=7',
    '"o", int, 1, help=None',
    '"o", int, 1, help=7',
    '"o", int, 1, help="100 % of %s"',
    '"o", int, 1, section=""',
    '"o", int, 1, section="seed"',
    '"o", int, 1, section=None',
    '"o", int, 1, aliases=("seed",)',
    '"o", int, 1, aliases="ab"',
    '"o", int, 1, aliases=("o",)',
    '"o", int, 1, resume="never"',
]


def _on_lines(change: Any) -> Mutation:
    def mutation(files: Files, rng: np.random.Generator) -> Files:
        lines = files[NAME].decode().splitlines()
        change(lines, rng)
        return {NAME: "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")}

    return mutation


def _replacing(start: str, make: Any) -> Mutation:
    """One of the lines that begin with ``start`` is another."""

    def change(lines: List[str], rng: np.random.Generator) -> None:
        chosen = [number for number, line in enumerate(lines) if line.strip().startswith(start)]
        number = chosen[int(rng.integers(0, len(chosen)))]
        line = lines[number]
        lines[number] = line[: len(line) - len(line.lstrip())] + make(line.strip(), rng)

    return _on_lines(change)


def _as_class(lines: List[str], rng: np.random.Generator) -> None:
    """The hooks are methods of a class, made to an object or not."""
    first = next(number for number, line in enumerate(lines) if line.startswith("@"))
    body = [
        ("    " + line).replace("def pipeloom_", "def pipeloom_").replace("(", "(self, ", 1)
        if line.startswith("def ")
        else "    " + line
        for line in lines[first:]
    ]
    lines[first:] = ["class Mine:", *body, *(["", "plugin = Mine()"] if rng.integers(0, 2) else [])]


def mutations() -> Dict[str, Mutation]:
    def pick(choices: List[str]) -> Any:
        return lambda line, rng: choices[int(rng.integers(0, len(choices)))]

    return {
        "another answer": _replacing("return", lambda line, rng: "return " + pick(_ANSWERS)(line, rng)),
        "another decorator": _replacing("@", pick(_DECORATORS)),
        "other arguments": _replacing(
            "def", lambda line, rng: line.partition("(")[0] + "(" + pick(_ARGUMENTS)(line, rng) + "):"
        ),
        "another hook": _replacing(
            "def",
            lambda line, rng: line.replace("pipeloom_", str(rng.choice(["pipelom_", "", "pipeloom_on_", "Pipeloom_"]))),
        ),
        "another option": _replacing("options.add", lambda line, rng: f"options.add({pick(_OPTIONS)(line, rng)})"),
        "no return": _replacing(
            "return", lambda line, rng: str(rng.choice(["pass", "yield", "raise", "return", "await x", "yield None"]))
        ),
        "a line less": _on_lines(lambda lines, rng: lines.pop(int(rng.integers(0, len(lines))))),
        "a line twice": _on_lines(
            lambda lines, rng: lines.insert(int(rng.integers(0, len(lines))), lines[int(rng.integers(0, len(lines)))])
        ),
        "a class": _on_lines(_as_class),
        "at import": _on_lines(lambda lines, rng: lines.insert(1, pick(_ANSWERS)("", rng))),
    }


def read_plugin(folder: Path) -> None:
    """Loads the file beside built-in plugins, declares its options and asks it for a plan, as a launcher does."""
    config, plugins = parse(
        ["--plugins", f"{folder / NAME},bert,wiki_ofrecord", "--nnodes", "1", "--nproc_per_node", "4"]
    )
    plan = make_plan(config, plugins)
    assert sorted(rank for stage in plan.placement.stages for rank in stage) == [0, 1, 2, 3]
    assert sum(plan.split) == len(plan.model.blocks) and len(plan.split) == plan.mesh.pipeline


# Whatever is wrong with it, the line names the file; without a strategy in it, it says what is missing.
PLUGIN_TARGETS = {
    "plugin": Target(
        read_plugin,
        lambda: {NAME: SOURCE.encode()},
        mutations,
        r"{folder}/mine\.py|no strategy is selected|no option '",
    ),
}
