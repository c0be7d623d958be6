"""The memory of small layouts by the engine's compiled plans, beside what pipeloom predicts.

    python benchmarks/lab/memory_fit.py [--write] [NAME ...]

``--write`` puts the figures of those layouts into tests/fixtures/compiled_memory.json, to which the model of
``plugins/executors/oneflow/registers.py`` is fitted and by which a test holds it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.plan_memory import measure  # noqa: E402  (the checkout is on the path now)
from pipeloom.core.commands.cli import parse  # noqa: E402
from pipeloom.core.contract.rank_load import PredictedMemory  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.core.planning.memory import memory_by_rank  # noqa: E402
from pipeloom.core.planning.planner import make_plan  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402

use_builtin(TABLE)

FIGURES = ROOT / "tests" / "fixtures" / "compiled_memory.json"
_WIDE = "--num_hidden_layers 4 --num_attention_heads 4 --seq_length 64 --train_global_batch_size 16 --vocab_size 8192"
_DEEP = "--num_hidden_layers 16 --num_attention_heads 1 --seq_length 32 --train_global_batch_size 16 --vocab_size 8192"
_ONE = "--nnodes 1 --nproc_per_node 1 --nums_split 1"
_PP2 = "--nnodes 1 --nproc_per_node 2 --nums_split 2"
_DP2 = "--nnodes 1 --nproc_per_node 2 --nums_split 1"
_FOUR = "--nnodes 2 --nproc_per_node 2 --nums_split 2 --grad_acc_steps 4"
LAYOUTS = {
    "one": f"{_WIDE} {_ONE} --grad_acc_steps 1",
    "one_acc4": f"{_WIDE} {_ONE} --grad_acc_steps 4",
    "one_sgd": f"{_WIDE} {_ONE} --grad_acc_steps 2 --optimizer sgd",
    "one_lamb": f"{_WIDE} {_ONE} --grad_acc_steps 2 --optimizer lamb",
    "one_noclip": f"{_WIDE} {_ONE} --grad_acc_steps 4 --clip_grad_norm 0",
    "dp2": f"{_WIDE} {_DP2} --grad_acc_steps 1",
    "dp2_opt": f"{_WIDE} {_DP2} --grad_acc_steps 2 --shard optimizer",
    "dp2_par": f"{_WIDE} {_DP2} --grad_acc_steps 2 --shard parameters",
    "tp2": f"{_WIDE} {_DP2} --grad_acc_steps 2 --tensor_parallel 2",
    "pp2": f"{_WIDE} {_PP2} --grad_acc_steps 4",
    "pp2_acc8": f"{_WIDE} {_PP2} --grad_acc_steps 8",
    "pp2_untied": f"{_WIDE} {_PP2} --grad_acc_steps 4 --tie_embeddings false",
    "pp2_rec": f"{_WIDE} {_PP2} --grad_acc_steps 4 --recompute full",
    "pp2dp2": f"{_WIDE} {_FOUR}",
    "pp2dp2_opt_unt": f"{_WIDE} {_FOUR} --shard optimizer --tie_embeddings false",
    "pp2dp2_par_unt": f"{_WIDE} {_FOUR} --shard parameters --tie_embeddings false",
    "pp4": f"{_WIDE} --nnodes 2 --nproc_per_node 2 --nums_split 4 --grad_acc_steps 8",
    "deep_pp2": f"{_DEEP} {_PP2} --grad_acc_steps 4",
}


def predict(flags: str, plugins: str = "inter_first,bert,wiki_ofrecord") -> List[PredictedMemory]:
    """What pipeloom predicts for each rank of a job that writes no checkpoint."""
    config, manager = parse(["--plugins", plugins, *flags.split(), "--save_every", "0"])
    plan = make_plan(config, manager)
    optimizer = manager.hook.pipeloom_build_optimizer(config=plan.config, parameters=list(plan.model.parameters))
    return memory_by_rank(plan, manager.hook.pipeloom_executor(config=plan.config), optimizer)


def line(name: str, rank: int, memory: PredictedMemory, plan: int, peak: int) -> str:
    """``plan``: bytes of the engine's memory blocks; ``peak``: of the process at its largest."""
    blocks = memory.total - memory.parts["process"]
    return (
        f"| {name} | {rank} | {blocks / 1e6:.0f} | {plan / 1e6:.0f} | {blocks / plan - 1:+.1%} | "
        f"{memory.total / 1e6:.0f} | {peak / 1e6:.0f} | {memory.total / peak - 1:+.1%} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="layouts (default: all)")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    known: Dict[str, Dict] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in arguments.names or LAYOUTS:
        ranks = measure(LAYOUTS[name].split())
        known[name] = {
            "flags": LAYOUTS[name],
            "plan": [ranks[rank].blocks for rank in sorted(ranks)],
            "peak": [ranks[rank].peak for rank in sorted(ranks)],
        }
        for rank, memory in enumerate(predict(LAYOUTS[name])):
            print(line(name, rank, memory, known[name]["plan"][rank], known[name]["peak"][rank]), flush=True)
        if arguments.write:
            FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
