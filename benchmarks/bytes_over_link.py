"""Bytes that cross the slow link in a step, beside theory: python benchmarks/bytes_over_link.py [--write]

Two nodes are two network namespaces on this machine (root and iproute2 needed), the link a veth pair
whose counters are read. Ends with 1 when a row sends more than 1.1 x theory in either direction.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import List, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.lab.measure import StepBytes, bytes_per_step  # noqa: E402  (the checkout is on the path now)
from benchmarks.lab.namespaces import LabError, Link, why_not  # noqa: E402
from benchmarks.lab.theory import crossing, plan_of  # noqa: E402
from benchmarks.machine import origin, page_parser  # noqa: E402
from pipeloom.core.planning.traffic import Traffic  # noqa: E402

LIMIT = 1.1
PAGE = ROOT / "docs" / "bytes.md"
PIPELINE = ["--nums_split", "2"]
MODEL = "--num_hidden_layers 2 --num_attention_heads 4 --seq_length 128 --vocab_size 30522 --train_global_batch_size 16"
#: In the name of a row -> flags.
DECODERS = {
    "tied, vectors": ["--tied_transfer", "vectors"],
    "tied, table": ["--tied_transfer", "table"],
    "untied": ["--tie_embeddings", "false"],
}
#: Two nodes x 1 device, so that all of it crosses: name -> flags.
SPREAD = {
    "tensor parallel 2": "--tensor_parallel 2",
    "data parallel 2": "",
    "data parallel 2, --shard vocabulary": "--shard vocabulary",
    "data parallel 2, --shard optimizer": "--shard optimizer",
    "data parallel 2, --shard parameters": "--shard parameters",
}
STRATEGIES = ("inter_first", "intra_first")


@dataclass(frozen=True)
class Row:
    names: Tuple[str, ...]
    micro_batches: int
    theory: Traffic
    measured: StepBytes

    @property
    def ratios(self):
        pairs = (
            (self.measured.bytes_0_to_1, self.theory.total(0, 1)),
            (self.measured.bytes_1_to_0, self.theory.total(1, 0)),
        )
        return tuple(measured / theory for measured, theory in pairs)

    def text(self) -> str:
        """A line of the table, in MB (10^6 bytes) a step."""
        theory = f"{self.theory.total(0, 1) / 1e6:.3f} | {self.theory.total(1, 0) / 1e6:.3f}"
        measured = f"{self.measured.bytes_0_to_1 / 1e6:.3f} | {self.measured.bytes_1_to_0 / 1e6:.3f}"
        return (
            f"| {' | '.join(self.names)} | {self.micro_batches} | {theory} | {measured} | "
            f"{self.ratios[0]:.3f} | {self.ratios[1]:.3f} |"
        )


def head(*names: str) -> str:
    columns = [
        *names,
        "micro-batches",
        "theory 0->1",
        "theory 1->0",
        "measured 0->1",
        "measured 1->0",
        "ratio 0->1",
        "ratio 1->0",
    ]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(names)}{'---:|' * 7}"


def measure(
    names: Tuple[str, ...],
    flags: Sequence[str],
    micro_batches: int,
    strategy: str = "inter_first",
    nproc_per_node: int = 2,
) -> Row:
    plugins = f"{strategy},bert,wiki_ofrecord"
    flags = [*flags, "--grad_acc_steps", str(micro_batches)]
    theory = crossing(plan_of(flags, plugins, nproc_per_node))
    with Link() as link:
        return Row(names, micro_batches, theory, bytes_per_step(link, flags, plugins, nproc_per_node))


def page(rows: List[Row], spread: List[Row], seconds: float) -> str:
    worst = max(max(row.ratios) for row in rows + spread)
    hidden = max(row.theory.hidden.get((0, 1), 0.0) for row in rows) / 1e6
    return f"""# Bytes over the slow link

{origin("python benchmarks/bytes_over_link.py --write", seconds)}

Two nodes x 2 CPU devices, 2 pipeline stages x 2 data-parallel: BERT, {MODEL}.
The nodes are network namespaces of one machine; a run is halted after steps 2, 5 and 8 and the counters of
the link between them are read while nothing moves, so that start, initial weights and compilation are not
in the figures. MB (10^6 bytes) in one step, in each direction (node 0 -> node 1, node 1 -> node 0):

{head("strategy", "decoder")}
{chr(10).join(row.text() for row in rows)}

The same model and counters, two nodes x 1 CPU device, one stage:

{head("layout")}
{chr(10).join(row.text() for row in spread)}

The largest ratio is {worst:.3f}; the requirement is {LIMIT}. Micro-batches share out the same bytes, but for `--shard parameters`.

Theory, float32, from the placement and the hops that OneFlow really makes (`core/planning/traffic.py`):

- *hidden states*: batch x sequence x hidden x 4 = {hidden:.3f} MB forward when the pipeline crosses, and as much back;
- *tied, vectors*: the word table lives on the last stage; the looked-up vectors go to the first stage
  and their gradient back, the same number of bytes as the hidden states in each direction when the pipeline crosses;
- *tied, table*: the first stage has a copy; its gradient goes to the last stage once a step and the sum comes back,
  vocabulary x hidden x 4 in each direction when the pipeline crosses, whatever the number of data-parallel ranks.
  The copy's own all-reduce counts among the gradients. `--tied_transfer auto` takes what keeps the link busy for
  the shorter time: vectors here, the table where a step has more than twice as many tokens as the vocabulary has words
  (its bytes go there and then back, when all has been computed; vectors go both ways at once, meanwhile);
- *gradients*: 2 (d - 1) / d x parameters x 4 along each edge of the ring of a data-parallel group; d = 2 here,
  so each stage whose group crosses sends its parameters once each way, once a step. `--shard optimizer` sends as many: it
  spreads gradients and gathers parameters. `--shard parameters` gathers each parameter for each use in each micro-batch and
  spreads its gradient: (d - 1) / d x 4 x 3 for a use in a product (gathered again in the backward pass), x 2 for others;
- *tensor parallel*: 2 (T - 1) / T x 4 x what a tensor group adds up: four times batch x sequence x hidden in a layer, once in
  the embedding, and per prediction a row of the decoder and the gradient of its input.

Measured is what the kernel counts at the interface: payload, TCP acknowledgements, the engine's control
messages, and one header of 66 bytes for each segment that TCP hands to the interface (up to 64 KB). On a
wire with frames of 1500 bytes headers add 4.6 % to the payload.
"""


def main() -> int:
    arguments = page_parser(__doc__, PAGE, records=True).parse_args()
    reason = why_not()
    if reason:
        print(f"bytes_over_link: cannot run here: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the namespaces are to be removed then too
    data = ["--ofrecord_path", arguments.ofrecord_path] if arguments.ofrecord_path else []
    began, rows, spread = time.monotonic(), [], []
    try:
        print(head("strategy", "decoder"), flush=True)
        for strategy, decoder, micro_batches in product(STRATEGIES, DECODERS, (1, 2, 4)):
            rows.append(
                measure(
                    (strategy, decoder), [*MODEL.split(), *PIPELINE, *DECODERS[decoder], *data], micro_batches, strategy
                )
            )
            print(rows[-1].text(), flush=True)
        print(head("layout"), flush=True)
        for name, micro_batches in product(SPREAD, (1, 2)):
            flags = [*MODEL.split(), "--nums_split", "1", *SPREAD[name].split(), *data]
            spread.append(measure((name,), flags, micro_batches, nproc_per_node=1))
            print(spread[-1].text(), flush=True)
    except LabError as error:
        print(f"bytes_over_link: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        PAGE.write_text(page(rows, spread, time.monotonic() - began), encoding="utf-8")
    over = [row for row in rows + spread if max(row.ratios) > LIMIT]
    for row in over:
        print(f"more than {LIMIT} x theory: {row.text()}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
