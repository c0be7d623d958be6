"""Bytes that cross the slow link in a step, beside theory: python benchmarks/bytes_over_link.py [--write]

Two nodes are two network namespaces on this machine (root and iproute2 needed), the link a veth pair
whose counters are read. Ends with 1 when a row sends more than 1.1 x theory in either direction.
"""
from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.measure import StepBytes, bytes_per_step  # noqa: E402  (the checkout is on the path now)
from benchmarks.lab.namespaces import LabError, Link, why_not  # noqa: E402
from benchmarks.lab.theory import Crossing, crossing, plan_of  # noqa: E402

LIMIT = 1.1
PAGE = ROOT / "docs" / "bytes.md"
#: The public records, where they lie beside the checkout; the built-in set has the same shapes.
RECORDS = ROOT.parent / "shared" / "data" / "wiki_ofrecord_seq_len_128"
MODEL = ("--nums_split 2 --num_hidden_layers 2 --num_attention_heads 4 --seq_length 128 --vocab_size 30522 "
         "--train_global_batch_size 16")


@dataclass(frozen=True)
class Row:
    strategy: str
    tied: bool
    micro_batches: int
    theory: Crossing
    measured: StepBytes

    @property
    def ratios(self):
        pairs = ((self.measured.bytes_0_to_1, self.theory.total(0, 1)), (self.measured.bytes_1_to_0, self.theory.total(1, 0)))
        return tuple(measured / theory for measured, theory in pairs)

    def text(self) -> str:
        """A line of the table, in MB (10^6 bytes) a step."""
        theory = f"{self.theory.total(0, 1) / 1e6:.3f} | {self.theory.total(1, 0) / 1e6:.3f}"
        measured = f"{self.measured.bytes_0_to_1 / 1e6:.3f} | {self.measured.bytes_1_to_0 / 1e6:.3f}"
        return (f"| {self.strategy} | {'tied' if self.tied else 'untied'} | {self.micro_batches} | {theory} | {measured} | "
                f"{self.ratios[0]:.3f} | {self.ratios[1]:.3f} |")


HEAD = ("| strategy | decoder | micro-batches | theory 0->1 | theory 1->0 | measured 0->1 | measured 1->0 | ratio 0->1 | ratio 1->0 |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|")


def measure(strategy: str, tied: bool, micro_batches: int, data: List[str]) -> Row:
    plugins = f"{strategy},bert,wiki_ofrecord"
    flags = [*MODEL.split(), "--tie_embeddings", str(tied).lower(), "--grad_acc_steps", str(micro_batches), *data]
    theory = crossing(plan_of(flags, plugins))
    with Link() as link:
        return Row(strategy, tied, micro_batches, theory, bytes_per_step(link, flags, plugins))


def page(rows: List[Row], seconds: float) -> str:
    worst = max(max(row.ratios) for row in rows)
    hidden = max(row.theory.hidden.get((0, 1), 0.0) for row in rows) / 1e6
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip() or "unknown"
    return f"""# Bytes over the slow link

`python benchmarks/bytes_over_link.py --write`, {datetime.date.today()}, on top of commit {commit}, {_machine()}; {seconds / 60:.0f} minutes.

Two nodes x 2 CPU devices, 2 pipeline stages x 2 data-parallel: BERT, {MODEL.replace('--nums_split 2 ', '')}.
The nodes are network namespaces of one machine; a run is halted after steps 2, 5 and 8 and the counters of
the link between them are read while nothing moves, so that start, initial weights and compilation are not
in the figures. MB (10^6 bytes) in one step, in each direction (node 0 -> node 1, node 1 -> node 0):

{HEAD}
{chr(10).join(row.text() for row in rows)}

The largest ratio is {worst:.3f}; the requirement is {LIMIT}. Micro-batches share out the same bytes.

Theory, float32, from the placement and the hops that OneFlow really makes (`benchmarks/lab/theory.py`):

- *hidden states*: batch x sequence x hidden x 4 = {hidden:.3f} MB forward when the pipeline crosses, and as much back;
- *tied decoder*: the word table lives on the last stage; the looked-up vectors go to the first stage
  and their gradient back, the same number of bytes again in each direction when the pipeline crosses. The
  table and its gradient never travel between stages;
- *gradients*: 2 (d - 1) / d x parameters x 4 along each edge of the ring of a data-parallel group; d = 2 here,
  so each stage whose group crosses sends its parameters once each way, once a step.

Measured is what the kernel counts at the interface: payload, TCP acknowledgements, the engine's control
messages, and one header of 66 bytes for each segment that TCP hands to the interface (up to 64 KB). On a
wire with frames of 1500 bytes headers add 4.6 % to the payload.
"""


def _machine() -> str:
    model: Optional[str] = None
    try:
        with open("/proc/cpuinfo") as f:
            model = next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), None)
    except OSError:
        pass
    return f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--ofrecord_path", default=str(RECORDS) if RECORDS.exists() else None,
                        help="records to train on (default: the public ones beside the checkout, else the built-in set)")
    arguments = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"bytes_over_link: cannot run here: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))    # the namespaces are to be removed then too
    data = ["--ofrecord_path", arguments.ofrecord_path] if arguments.ofrecord_path else []
    began, rows = time.monotonic(), []
    print(HEAD, flush=True)
    try:
        for strategy in ("inter_first", "intra_first"):
            for tied in (True, False):
                for micro_batches in (1, 2, 4):
                    rows.append(measure(strategy, tied, micro_batches, data))
                    print(rows[-1].text(), flush=True)
    except LabError as error:
        print(f"bytes_over_link: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        PAGE.write_text(page(rows, time.monotonic() - began), encoding="utf-8")
    over = [row for row in rows if max(row.ratios) > LIMIT]
    for row in over:
        print(f"more than {LIMIT} x theory: {row.text()}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
