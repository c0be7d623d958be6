"""What sharding, tensor parallelism and recompute save, per rank: python benchmarks/memory.py [--write]

From the engine's own memory plan and the size of the processes. Ends with 1 when a saving is more than 10 % away
from what it should be.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.plan_memory import RankMemory, measure  # noqa: E402  (the checkout is on the path now)
from benchmarks.machine import origin, page_parser  # noqa: E402
from pipeloom.core.commands.cli import parse  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.core.planning.planner import make_plan  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402

use_builtin(TABLE)

PAGE = ROOT / "docs" / "memory.md"
MODEL = "--num_hidden_layers 2 --num_attention_heads 4 --seq_length 128 --train_global_batch_size 16"
#: (name, flags, what is compared with the first row of the same group, its expected share)
STATES = [
    ("DP2", "--nnodes 1 --nproc_per_node 2 --nums_split 1", []),
    ("DP2, --shard optimizer", "--nnodes 1 --nproc_per_node 2 --nums_split 1 --shard optimizer", [("optimizer", 0.5)]),
    (
        "DP2, --shard parameters",
        "--nnodes 1 --nproc_per_node 2 --nums_split 1 --shard parameters",
        [("optimizer", 0.5), ("parameters", 0.5)],
    ),
    ("PP2 x DP2", "--nnodes 2 --nproc_per_node 2 --nums_split 2", []),
    (
        "PP2 x DP2, --shard optimizer",
        "--nnodes 2 --nproc_per_node 2 --nums_split 2 --shard optimizer",
        [("optimizer", 0.5)],
    ),
    (
        "PP2 x DP2, --shard parameters",
        "--nnodes 2 --nproc_per_node 2 --nums_split 2 --shard parameters",
        [("optimizer", 0.5), ("parameters", 0.5)],
    ),
]
DEEP, SHALLOW = 6, 2
ONE = (
    "--nnodes 1 --nproc_per_node 1 --nums_split 1 --grad_acc_steps 1 --num_attention_heads 4 --seq_length 128 "
    "--train_global_batch_size 16"
)

#: A head whose logits outweigh all else: 1,024 tokens of 8 samples, a vocabulary of BERT's size.
HEAD_BATCH, HEAD_LENGTH, HEAD_VOCAB = 8, 256, 30522
HEAD = (
    "--nnodes 1 --nproc_per_node 1 --nums_split 1 --grad_acc_steps 1 --num_hidden_layers 1 --num_attention_heads 4 "
    f"--seq_length {HEAD_LENGTH} --train_global_batch_size {HEAD_BATCH} --vocab_size {HEAD_VOCAB}"
)
HEAD_CHUNKS = Path(__file__).resolve().parent / "lab" / "head_chunks.py"


def mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


def state_rows(problems: List[str]) -> List[str]:
    rows, base = [], {}
    for name, flags, expected in STATES:
        ranks = measure([*MODEL.split(), *flags.split()])
        base = base if expected else ranks
        for rank, memory in sorted(ranks.items()):
            shares = []
            for kind, share in expected:
                found = getattr(memory, kind) / getattr(base[rank], kind)
                shares.append(f"{kind} {found:.3f}")
                if abs(found / share - 1) > 0.1:
                    problems.append(f"{name} rank {rank}: {kind} is {found:.3f} of the unsharded, expected {share}")
            rows.append(
                f"| {name} | {rank} | {mb(memory.parameters)} | {mb(memory.masters)} | {mb(memory.optimizer)} | "
                f"{', '.join(shares) or '-'} | {mb(memory.registers)} | {mb(memory.live)} | {mb(memory.rss)} |"
            )
            print(rows[-1], flush=True)
    return rows


def recompute_rows(problems: List[str]) -> List[str]:
    """Activations of one layer: the difference between two depths, in the plan and as the layer's cost predicts."""
    rows, saved, predicted_saving = [], {}, {}
    for how in ("none", "full"):
        memory: List[RankMemory] = [
            measure([*ONE.split(), "--num_hidden_layers", str(layers), "--recompute", how])[0]
            for layers in (SHALLOW, DEEP)
        ]
        config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *ONE.split()])
        plan = make_plan(config, plugins)
        cost = next(block.cost for block in plan.model.blocks if block.layer).of(plan.batch)
        predicted = cost.kept_bytes if how == "none" else cost.output_bytes
        found = (memory[1].live - memory[0].live) / (DEEP - SHALLOW)
        registers = (memory[1].registers - memory[0].registers) / (DEEP - SHALLOW)
        saved[how], predicted_saving[how] = found, predicted
        rows.append(
            f"| {how} | {mb(predicted)} | {mb(found)} | {mb(memory[1].live)} | {mb(registers)} | {mb(memory[1].rss)} |"
        )
        print(rows[-1], flush=True)
    cut, wanted = saved["none"] - saved["full"], predicted_saving["none"] - predicted_saving["full"]
    rows.append(f"\nSaved per layer: {mb(cut)} MB; predicted {mb(wanted)} MB ({cut / wanted - 1:+.1%}).")
    print(rows[-1], flush=True)
    if abs(cut / wanted - 1) > 0.1:
        problems.append(f"recompute saves {mb(cut)} MB a layer, predicted {mb(wanted)}")
    return rows


def head_rows(problems: List[str]) -> List[str]:
    """The head of causal language models: what is alive at once with its logits whole and in parts."""
    rows, found = [], {}
    logits = HEAD_BATCH * HEAD_LENGTH * HEAD_VOCAB * 4
    for chunks in (0, 1, 4, 16):
        memory = measure([*HEAD.split(), "--head_chunks", str(chunks)], f"inter_first,gpt2,text,{HEAD_CHUNKS}")[0]
        found[chunks] = memory.live
        how = (
            f"{chunks} parts" if chunks > 1 else "at once, not kept" if chunks else "whole, kept for the backward pass"
        )
        rows.append(
            f"| {how} | {mb(logits / max(1, chunks))} | {mb(memory.live)} | {mb(memory.registers)} | {mb(memory.rss)} |"
        )
        print(rows[-1], flush=True)
    if found[4] > found[0] - 0.9 * logits:
        problems.append(f"4 parts of the logits have {mb(found[4])} MB alive, all of them kept {mb(found[0])}")
    return rows


def page(states: List[str], recompute: List[str], heads: List[str], seconds: float) -> str:
    lines = "\n".join
    return f"""# Memory per rank

{origin("python benchmarks/memory.py --write", seconds)}

Read from the engine's own memory plan (what it allocates) and the size of the processes. MB are 10^6 bytes.

## Sharding

BERT, {MODEL}, embedded sample, AdamW. *Optimizer* is the two moments; *masters* are the parts that `--shard optimizer`
updates, beside the whole parameters; *share* is against the same rank without sharding; *registers* are all that operations
put out and *live* the most of it alive at once (see below).

| layout | rank | parameters | masters | optimizer | share | registers | live | process |
|---|---:|---:|---:|---:|---|---:|---:|---:|
{lines(states)}

A parameter that the ranks do not divide evenly stays whole (here: none that counts). With `--shard parameters` the parameters
are gathered at each use, so what is alive at once includes those of the blocks at work.

## Activations

One process, batch 16 x 128 tokens, hidden 256, one micro-batch; one layer, as the difference between {DEEP} layers and {SHALLOW}:

| --recompute | predicted, a layer | live in the plan, a layer | live, {DEEP} layers | registers, a layer | process, {DEEP} layers |
|---|---:|---:|---:|---:|---:|
{lines(recompute)}

Predicted is the layer's `kept_bytes` without recompute (4 bytes x (13 h + 2 f + 3 heads x L) a token) and its `output_bytes`
with it. *Live* is what remains when registers share memory as soon as they are free, computed from the plan's own order.

**On a CPU this saving is not seen in the process**: OneFlow 0.9.0 shares no memory between the registers of a CPU
(`intra_job_mem_sharing_util.cpp` skips the device type), so each of them has its own and recompute adds more of them. On
CUDA the engine shares. See docs/oneflow-notes.md.

## The head of causal language models

GPT-2 of one layer, {HEAD_BATCH} x {HEAD_LENGTH} tokens, a vocabulary of {HEAD_VOCAB}, one process. *Logits* are those that are made at once:

| logits are made | logits | live in the plan | registers | process |
|---|---:|---:|---:|---:|
{lines(heads)}

The head makes the gradient of a part with its loss, so no logits are kept; each part adds a gradient of the decoder ({mb(HEAD_VOCAB * 256 * 4)} MB),
and the engine adds these up only when all are there. So the head takes the number of parts that needs the least of both (here 4), and no
more than bring a part below 256 MB. Registers are larger with more parts on a CPU, for the reason above.
"""


def main() -> int:
    arguments = page_parser(__doc__, PAGE).parse_args()
    problems: List[str] = []
    began = time.monotonic()
    states = state_rows(problems)
    recompute = recompute_rows(problems)
    heads = head_rows(problems)
    for problem in problems:
        print(f"memory: {problem}", file=sys.stderr)
    if arguments.write:
        PAGE.write_text(page(states, recompute, heads, time.monotonic() - began), encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
