"""The first run on GPUs: python benchmarks/gpu_acceptance.py [CHECK ...] [--output FOLDER] [--dry] [--list]

Checks on this machine's GPUs what could so far be tested on CPUs alone, and writes report.md and report.json into
FOLDER. Ends with 1 when a check fails. --dry says the commands, and makes each run on CPU
ranks with a tiny model, to see that the script itself works; half precision, fused kernels and NCCL are left out then.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.accept import PLUGINS, Done, Run, Runner  # noqa: E402  (the checkout is on the path now)
from benchmarks.machine import machine, origin  # noqa: E402
from pipeloom.core.base.devices import find_gpus  # noqa: E402
from pipeloom.core.base.errors import PipeloomError  # noqa: E402
from pipeloom.core.commands.cli import parse  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.core.planning.memory import memory_by_rank  # noqa: E402
from pipeloom.core.planning.planner import make_plan  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402

use_builtin(TABLE)

STEPS = "--train_steps 10 --log_every 1 --train_global_batch_size 16 --save_every 0"
SMALL = f"--num_hidden_layers 4 --hidden_size 256 --num_attention_heads 4 --vocab_size 30522 {STEPS}"
BIG = "--num_hidden_layers 12 --hidden_size 768 --num_attention_heads 12 --train_global_batch_size 32 --train_steps 20 --log_every 1 --save_every 0"
TINY = f"--num_hidden_layers 1 --num_attention_heads 2 --hidden_size 64 {STEPS}"
#: Differences of a loss: between devices, whose sums have another order; between layouts of one device; relative, of
#: half precision from float32; and of memory from what was predicted.
DEVICES, LAYOUTS, HALF, MEMORY = 1e-3, 1e-4, 0.01, 0.25

ONE = Run("one_gpu", "--grad_acc_steps 1 --nums_split 1")
AMP = "--grad_acc_steps 1 --nums_split 1 --precision amp"
SAVED = "--grad_acc_steps 1 --nums_split 1 --save_every 5"


class Failed(Exception):
    """A check that does not hold; the message says why."""


@dataclass(frozen=True)
class Check:
    """``runs`` are made, on ``gpus`` devices at most; ``judge`` gets what they left, in order, and says what it found.

    It raises ``Failed``. ``only_on_gpus``: what it judges is not there on CPUs, where its runs are made all the same.
    """

    name: str
    purpose: str
    runs: Sequence[Run]
    judge: Callable[..., str]
    only_on_gpus: bool = False

    @property
    def gpus(self) -> int:
        return max(run.ranks for run in self.runs if run.device == "cuda")


def apart(one: Done, other: Done) -> float:
    """Return the largest difference of a loss between two runs of as many steps."""
    if len(one.losses) != len(other.losses) or not one.losses:
        raise Failed(f"{len(one.losses)} and {len(other.losses)} steps are logged")
    return max(abs(mine - theirs) for mine, theirs in zip(one.losses, other.losses))


def near(limit: float) -> Callable[..., str]:
    """Return a judge for whom the losses of all runs are those of the first one."""

    def judge(first: Done, *others: Done) -> str:
        off = max(apart(first, other) for other in others)
        if not off <= limit:
            raise Failed(f"losses differ by {off:.1e}, more than {limit:g}")
        return f"losses differ by {off:.1e} at most (limit {limit:g})"

    return judge


def repeated(first: Done, again: Done) -> str:
    off = apart(first, again)
    if not off <= LAYOUTS:
        raise Failed(f"the same run twice differs by {off:.1e}")
    return "bit for bit the same" if off == 0 else f"not the same bits: {off:.1e} (sums by atomic additions, perhaps)"


def half(single: Done, amp: Done) -> str:
    if len(amp.losses) != len(single.losses) or not amp.losses:
        raise Failed(f"{len(amp.losses)} steps instead of {len(single.losses)}")
    # Batches that overflow are left out, and those after them are others: compared is the mean.
    off = abs(sum(amp.losses) / sum(single.losses) - 1)
    if not off <= HALF:
        raise Failed(f"the mean loss is off by {off:.2%}, more than {HALF:.0%}")
    return f"the mean loss is off by {off:.3%}; {amp.overflows} steps were left out"


def scaled(amp: Done) -> str:
    if not amp.overflows:
        raise Failed("a loss scale of 2^100 does not overflow")
    if not all(map(math.isfinite, amp.losses)) or len(amp.losses) != 10:
        raise Failed(f"{len(amp.losses)} of 10 steps after {amp.overflows} overflows")
    scale = amp.lines[-1]["loss_scale"]
    return (
        f"{amp.overflows} steps were left out, then 10 were made; the scale fell from 2^100 to 2^{math.log2(scale):g}"
    )


def remembered(whole: Done, *others: Done) -> str:
    found = []
    for other in others:
        rest = Done(whole.command, 0, "", whole.lines[-len(other.lines) :])
        found.append(apart(rest, other))
        if not found[-1] <= DEVICES:
            raise Failed(f"after the checkpoint losses differ by {found[-1]:.1e}")
    return f"after the checkpoint losses differ by {max(found):.1e} at most (limit {DEVICES:g})"


def fast(*done: Done) -> str:
    return ", ".join(f"{one.samples_per_second:.1f}" for one in done) + " samples/s"


def predicted_mb(flags: str) -> float:
    """Return what the busiest rank of a run is predicted to take of its GPU, in 2^20 bytes."""
    config, plugins = parse(["--plugins", PLUGINS, *flags.split()])
    plan = make_plan(config, plugins)
    executor = plugins.hook.pipeloom_executor(config=plan.config)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=plan.config, parameters=list(plan.model.parameters))
    return max(memory.total for memory in memory_by_rank(plan, executor, optimizer)) / 2**20


def held(done: Done) -> str:
    words = shlex.split(done.command)
    flags = words[words.index("--plugins") + 2 : words.index("--output_dir")]
    expected = predicted_mb(" ".join([*flags, *words[words.index("--output_dir") + 2 :]]))
    used = max(done.used_mb.values(), default=0.0)
    if not used:
        raise Failed("nvidia-smi says nothing of the memory in use")
    text = f"{used:.0f} MiB used, {expected:.0f} MiB predicted"
    if abs(expected / used - 1) > MEMORY:
        raise Failed(f"{text}: off by {abs(expected / used - 1):.0%}")
    return text


def layout(name: str, ranks: int, flags: str, more: str = "") -> Check:
    run = Run(name.replace(" ", "_"), f"{flags} {more}".strip(), ranks)
    return Check(name, f"{name} is one GPU's mathematics", (ONE, run), near(LAYOUTS))


PP2, DP2 = "--nums_split 2 --grad_acc_steps 2", "--nums_split 1 --grad_acc_steps 1"
NCCL = "--nccl_compute_stream true --nccl_fusion_mbytes 32 --nccl_fusion_ops 16"
SPEED = [
    Run(f"speed_{name}", f"{ONE.flags} {flags}".strip(), model=BIG)
    for name, flags in (("fp32", ""), ("plain", "--fused_kernels false"), ("amp", "--precision amp"))
]
CHECKS = (
    Check("devices", "one GPU is a CPU's mathematics", (Run("one_cpu", ONE.flags, 1, "cpu"), ONE), near(DEVICES)),
    Check("repeat", "the same run gives the same losses", (ONE, Run("one_gpu_again", ONE.flags)), repeated),
    Check(
        "fused",
        "fused kernels are the plain operations",
        (ONE, Run("plain", f"{ONE.flags} --fused_kernels false")),
        near(LAYOUTS),
        only_on_gpus=True,
    ),
    layout("PP2", 2, PP2),
    layout("DP2", 2, DP2),
    layout("DP2 nccl", 2, DP2, NCCL),
    layout("TP2", 2, f"{DP2} --tensor_parallel 2"),
    layout("PP2 x DP2", 4, PP2),
    Check("amp", "half precision is close to float32", (ONE, Run("amp", AMP)), half, True),
    Check("amp PP2", "half precision in a pipeline", (ONE, Run("amp_pp2", f"{PP2} --precision amp", 2)), half, True),
    Check(
        "loss scale",
        "a loss scale that overflows falls, and training goes on",
        (Run("loss_scale", f"{AMP} --loss_scale dynamic --initial_loss_scale {2.0**100:.0f}"),),
        scaled,
    ),
    Check(
        "checkpoint",
        "a run goes on from its checkpoint on a GPU, and on a CPU",
        (
            Run("saved", SAVED),
            Run("on_gpu", "--save_every 0", 1, "cuda", ("saved", 5)),
            Run("on_cpu", "--save_every 0", 1, "cpu", ("saved", 5)),
        ),
        remembered,
    ),
    Check("memory", "the memory of a GPU is as predicted", (SPEED[0],), held, only_on_gpus=True),
    Check("speed", "how fast: fused kernels, plain operations, half precision (no limit)", SPEED, fast, True),
)


def judged(check: Check, runner: Runner, gpus: int) -> Dict[str, Any]:
    """Make the runs of a check and return what came of it; ``commands`` are those on GPUs."""
    on_gpus = Runner(runner.folder, SMALL, False, print)
    result: Dict[str, Any] = {
        "name": check.name,
        "purpose": check.purpose,
        "commands": [shlex.join(on_gpus.command(run)) for run in check.runs],
    }
    if check.gpus > gpus:
        return {**result, "result": "not run", "said": f"needs {check.gpus} GPUs"}
    done = [runner(run) for run in check.runs]
    result["seconds"] = round(sum(one.seconds for one in done), 1)
    result["losses"] = [one.losses for one in done]
    bad = next((one for one in done if one.code), None)
    if bad is not None:
        return {
            **result,
            "result": "failed",
            "said": " ".join(bad.said.strip().splitlines()[-1:]),
            "log": bad.said[-4000:],
        }
    if runner.dry and check.only_on_gpus:
        return {**result, "result": "made", "said": "its runs end well; what it judges is not there on CPUs"}
    try:
        return {**result, "result": "passed", "said": check.judge(*done)}
    except (Failed, PipeloomError) as error:
        return {**result, "result": "failed", "said": str(error)}


def report(results: Sequence[Dict[str, Any]], head: str, dry: bool) -> str:
    """Return the report in Markdown."""
    rows = [f"| {one['name']} | {one['purpose']} | **{one['result']}** | {one['said']} |" for one in results]
    commands = [f"### {one['name']}\n\n" + "\n".join(f"    {line}" for line in one["commands"]) for one in results]
    note = "**A dry run on CPU ranks: it says nothing about GPUs.**\n\n" if dry else ""
    return (
        f"# Acceptance on GPUs\n\n{note}{head}\n\n| check | what must hold | result | found |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## Commands\n\n"
        + "\n\n".join(commands)
        + "\n"
    )


def _arguments(given: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is to check, and the commands on GPUs")
    parser.add_argument("--dry", action="store_true", help="say the commands and make the runs on CPU ranks, tiny")
    parser.add_argument("--output", type=Path, default=Path("gpu_acceptance"), help="a new folder (%(default)s)")
    options = parser.parse_args(given)
    unknown = [name for name in options.checks if name not in {check.name for check in CHECKS}]
    if unknown:
        parser.error(f"no check '{unknown[0]}': {', '.join(check.name for check in CHECKS)}")
    if not options.list and options.output.exists():
        parser.error(f"{options.output} is there already: give another --output")
    return options


def gpus_here(dry: bool) -> Tuple[int, str]:
    """Return how many GPUs there are to use, and what they are called."""
    if dry:
        return 4, "no GPU is used"
    found = find_gpus()
    usable = found.usable()
    if not usable:
        raise SystemExit(f"{found.trouble() or 'no GPU is visible'}; --dry goes through the checks on CPUs")
    return len(usable), "; ".join(map(str, usable))


def main(given: Optional[List[str]] = None) -> int:
    options = _arguments(given)
    chosen = [check for check in CHECKS if not options.checks or check.name in options.checks]
    dry = options.dry and not options.list
    runner = Runner(options.output, TINY if dry else SMALL, dry, lambda line: print(line, flush=True))
    if options.list:
        for check in chosen:
            print(f"{check.name}: {check.purpose}; GPUs: {check.gpus}")
            for run in check.runs:
                print(f"    {shlex.join(runner.command(run))}")
        return 0
    gpus, names = gpus_here(options.dry)
    began, results = time.time(), []
    for check in chosen:
        results.append(judged(check, runner, gpus))
        print(f"{check.name}: {results[-1]['result']}: {results[-1]['said']}\n", flush=True)
    command = f"python benchmarks/gpu_acceptance.py{' --dry' if options.dry else ''}"
    versions = f"OneFlow {metadata.version('oneflow')}, Python {platform.python_version()}"
    head = f"{origin(command, time.time() - began)} {names}; {versions}."
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "report.md").write_text(report(results, head, options.dry))
    content = {"dry": options.dry, "machine": machine(), "gpus": names, "versions": versions, "checks": results}
    (options.output / "report.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {options.output / 'report.md'}", flush=True)
    return int(any(one["result"] == "failed" for one in results))


if __name__ == "__main__":
    sys.exit(main())
