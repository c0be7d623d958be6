"""What `prepare tokens` takes, on a real Wikipedia dump: python benchmarks/prepare_tokens.py [--write]

Speed and memory with 1 and 2 workers and on 20 times the input, and whether the bytes are the same with both and after
kills at random instants. `--write` puts them into their section of docs/prepare.md. Ends with 1 when something of it
does not hold.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import List, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from preparations import digest  # noqa: E402

from benchmarks.machine import entry, origin, page_parser  # noqa: E402  (the checkout is on the path now)
from benchmarks.prepare import DUMP, KILLS, PAGE, SEED, TIMES, Made, watch  # noqa: E402

VOCAB_SIZE = 8192
TITLE = "## Token folders"


def command(inputs: Sequence[Path], vocab: Path, out: Path, workers: int) -> List[str]:
    given = ["--input", *map(str, inputs), "--vocab", str(vocab), "--output", str(out), "--workers", str(workers)]
    return [sys.executable, str(ROOT / "entry.py"), "prepare", "tokens", *given]


def prepare(inputs: Sequence[Path], vocab: Path, out: Path, workers: int) -> Made:
    """Make a token folder, and measure it; its samples are tokens."""
    began, before = time.monotonic(), _cpu_seconds()
    process = subprocess.Popen(
        command(inputs, vocab, out, workers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    peak = [0.0]
    watching = threading.Thread(target=watch, args=(process, peak))
    watching.start()
    assert process.wait() == 0
    watching.join()
    seconds = time.monotonic() - began
    tokens = json.loads((out / "meta.json").read_text())["tokens"]
    return Made(out, workers, tokens, seconds, peak[0], _cpu_seconds() - before)


def _cpu_seconds() -> float:
    """Return what all processes that were waited for have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def killed(vocab: Path, out: Path, seconds: float) -> int:
    """SIGKILL, SIGINT or SIGTERM at random instants; returns how many there were until the folder stood."""
    rng = random.Random(SEED)
    for count in range(KILLS):
        process = subprocess.Popen(
            command([DUMP], vocab, out, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=rng.uniform(0.3, 0.7 * seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
            process.wait()
        if out.exists():
            return count
    subprocess.run(command([DUMP], vocab, out, 2), check=True, stdout=subprocess.DEVNULL)
    return KILLS


def section(command_line: str) -> Tuple[str, bool]:
    """Measure; returns the section of the page, and whether all holds."""
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pipeloom-tokens-") as name:
        folder = Path(name)
        vocab = folder / "vocab"
        entry("prepare", "vocab", "--kind", "bpe", "--vocab_size", VOCAB_SIZE, "--input", DUMP, "--output", vocab)
        one, two = (prepare([DUMP], vocab, folder / f"by-{workers}", workers) for workers in (1, 2))
        copies = [folder / f"copy-{number}.xml.bz2" for number in range(TIMES)]
        for copy in copies:
            shutil.copy(DUMP, copy)
        many = prepare(copies, vocab, folder / "many", 2)
        print(one, two, many, sep="\n", flush=True)
        count = killed(vocab, folder / "killed", two.seconds)
        same = len({digest(path) for path in (one.folder, two.folder, folder / "killed")}) == 1
        print(f"{count} kills, the same bytes: {same}", flush=True)
    rows = "\n".join(
        f"| {what} | {made.workers} | {made.samples:,} | {made.seconds:.1f} | {made.samples / made.seconds:,.0f} | "
        f"{made.cpu:.1f} | {made.memory:.0f} |"
        for what, made in (("the dump", one), ("the dump", two), (f"{TIMES} copies of it", many))
    )
    text = f"""{TITLE}

`prepare tokens` reads the same inputs into a token folder (docs/text.md), for causal language models and RoBERTa: documents whole, as running
text, plain text with its lines and spaces as they are. {origin(command_line, time.monotonic() - began)}
The dump as above, a byte-level BPE of {VOCAB_SIZE:,} tokens made from it with `prepare vocab --kind bpe`:

| input | workers | tokens | seconds | tokens/s | CPU seconds | MiB |
|---|---:|---:|---:|---:|---:|---:|
{rows}

Load of the machine when it began: {load:.1f} processes on {os.cpu_count()} cores; the CPU seconds are free of that. The bytes are the same with 1 and with 2 workers, and after {count} kills at random instants (SIGKILL, SIGINT, SIGTERM). Memory on {TIMES} times
the input: {100 * (many.memory / two.memory - 1):+.1f} %.

"""
    return text, same and many.memory < 1.25 * two.memory


def main() -> int:
    arguments = page_parser(__doc__, PAGE).parse_args()
    if not DUMP.exists():
        sys.exit(f"needs the data {DUMP.relative_to(ROOT.parent)} beside the checkout")
    text, holds = section("python benchmarks/prepare_tokens.py --write")
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        old = re.search(rf"^{TITLE}\n.*?(?=^## )", page, re.M | re.S)
        place = old.span() if old else (page.index("## Interrupted"),) * 2
        PAGE.write_text(page[: place[0]] + text + page[place[1] :], encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
