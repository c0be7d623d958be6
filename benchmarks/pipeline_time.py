"""What a pipeline of two stages gains, by how a tied embedding travels: python benchmarks/pipeline_time.py [--write]

Two stages of about the same work on two cores against one process, in interleaved rounds; on one machine, and as two
nodes with a slow link between them (network namespaces: root, iproute2 and tc needed; left out where they are not).
Ends with 1 when the default is slower than the limit. About ten minutes; a machine that does other work shows that
work.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.job import TwoNodeJob  # noqa: E402  (the checkout is on the path now)
from benchmarks.lab.namespaces import Link, why_not  # noqa: E402
from benchmarks.machine import entry, origin, page_parser  # noqa: E402

PAGE = ROOT / "docs" / "pipeline.md"
LIMIT, RATE, STEPS = 0.70, "300mbit", 9
PLUGINS = "inter_first,by_flops,bert,wiki_ofrecord"
MODEL = (
    "--num_hidden_layers 4 --hidden_size 256 --num_attention_heads 4 --seq_length 128 --vocab_size 30522 "
    "--max_predictions 20 --clip_grad_norm 1 --optimizer adamw"
)
MICRO_BATCH = 4
ONE = "one process"
FORMS = {"tied (default)": "", "tied, table": "--tied_transfer table", "untied": "--tie_embeddings false"}
DEFAULT = "tied (default)"
#: (micro-batches, over the link, forms, rounds)
CASES = [
    (8, False, [ONE, DEFAULT, "tied, table", "untied"], 2),
    (8, True, [DEFAULT, "tied, table", "untied"], 2),
    (4, False, [ONE, DEFAULT, "tied, table"], 1),
    (4, True, [DEFAULT], 1),
]


def flags_of(form: str, micro_batches: int, records: List[str]) -> List[str]:
    layout = ["--nums_split", "1"] if form == ONE else ["--nums_split", "2", *FORMS[form].split()]
    return [
        *records,
        *MODEL.split(),
        *layout,
        "--train_global_batch_size",
        str(MICRO_BATCH * micro_batches),
        "--grad_acc_steps",
        str(micro_batches),
        "--train_steps",
        str(STEPS),
        "--log_every",
        "1",
        "--save_every",
        "0",
        "--save_final_weights",
        "false",
    ]


def milliseconds(form: str, micro_batches: int, linked: bool, records: List[str]) -> float:
    """Median of a step's time by its samples, without the first two steps."""
    flags = flags_of(form, micro_batches, records)
    with tempfile.TemporaryDirectory(prefix="pipeloom-time-") as temporary:
        folder = Path(temporary)
        if linked:
            flags, run = ["--plugins", PLUGINS, *flags], folder / "run_0"
            with Link(rate=RATE) as link, TwoNodeJob(link, flags, folder, nproc_per_node=1) as job:
                job.wait(300)
        else:
            run = folder / "run"
            ranks = 1 if form == ONE else 2
            entry("--plugins", PLUGINS, *flags, "--nnodes", 1, "--nproc_per_node", ranks, "--output_dir", run)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return statistics.median(1000 / line["samples_per_second"] for line in lines[2:])


def rows_of(times: Dict[Tuple[int, bool, str], List[float]]) -> List[str]:
    rows = []
    for (micro_batches, linked, form), values in times.items():
        alone = times[micro_batches, False, ONE]
        share = statistics.median(values) / statistics.median(alone)
        where = "two nodes" if linked else "one machine"
        rows.append(f"| {micro_batches} | {where} | {form} | {statistics.median(values):.1f} | {share:.2f} |")
    return rows


def page(rows: List[str], seconds: float) -> str:
    return f"""# What a pipeline gains

{origin("python benchmarks/pipeline_time.py --write", seconds)}

BERT: {MODEL}. Two stages of about the same work (`by_flops`), one rank each, micro-batches of {MICRO_BATCH} samples; two nodes have a link
of {RATE} between them. Milliseconds a sample, median of steps 3 to {STEPS} and of interleaved rounds; beside them the share of what one
process takes for as many micro-batches. Two stages can reach (m + 1) / 2m at the best, 0.56 for 8 micro-batches and 0.63 for 4.

| micro-batches | where | form | ms a sample | of one process |
|---:|---|---|---:|---:|
{chr(10).join(rows)}

The looked-up vectors of a tied embedding travel against the pipeline's direction, from the last stage to the first; how they are
kept from making it wait is in [oneflow-notes.md](oneflow-notes.md), and `tests/plugins/executors/test_plan_order.py` looks at the compiled plan for it.
The default is the form that keeps the link between the nodes busy for the shorter time (`core/planning/tied_weights.py`): vectors here.
"""


def main() -> int:
    options = page_parser(__doc__, PAGE, records=True).parse_args()
    records = ["--ofrecord_path", options.ofrecord_path] if options.ofrecord_path else []
    reason, began = why_not(rate=True), time.time()
    if reason:
        print(f"without the link: {reason}", flush=True)
    times: Dict[Tuple[int, bool, str], List[float]] = {}
    for number in range(max(rounds for *_, rounds in CASES)):
        for micro_batches, linked, forms, rounds in CASES:
            for form in forms if number < rounds and not (linked and reason) else ():
                measured = milliseconds(form, micro_batches, linked, records)
                times.setdefault((micro_batches, linked, form), []).append(measured)
                print(
                    f"{micro_batches} micro-batches, {'link' if linked else 'one machine'}, {form}: {measured:.1f} ms "
                    f"a sample",
                    flush=True,
                )
    rows = rows_of(times)
    print("\n".join(rows))
    if options.write:
        PAGE.write_text(page(rows, time.time() - began))
    slow = [row for row in rows if DEFAULT in row and float(row.split("|")[-2]) > LIMIT]
    for row in slow:
        print(f"slower than {LIMIT} of one process: {row}", file=sys.stderr)
    return bool(slow)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{failed}")
