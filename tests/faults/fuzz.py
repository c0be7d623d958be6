"""Damages files in seeded ways and reads them: each must be taken with sound values, or refused in one line that names
it.

    python tests/faults/fuzz.py --rounds 5000 --seed 1                     # all targets, in child processes
    python tests/faults/fuzz.py --target ofrecord --seed 1 --only 137 --keep /tmp/case   # a round again, its files kept

A target is a function ``target(folder) -> None`` that reads the files of ``folder``: it returns when they are sound,
checks what it read with ``assert``, and lets a ``PipeloomError`` through. ``TARGETS`` in fuzz_targets.py says of each
also which intact files there are, and which damage is peculiar to its format. To add one, add a line there.
"""

from __future__ import annotations

import argparse
import re
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).resolve().parent)]

from fuzz_targets import TARGETS  # noqa: E402  (the checkout's root is on the path now)
from mutations import GENERAL  # noqa: E402

from pipeloom.core.base.errors import PipeloomError  # noqa: E402

#: A round that takes longer is counted as a hang.
ROUND_SECONDS = 20.0


class Finding(AssertionError):
    """A round that ended as none may: what was done to the files, and what came of it."""


# --- rounds


def one_round(name: str, seed: int, number: int, folder: Path) -> str:
    """Damage the files of target ``name``, read them in the empty ``folder``, and say what came of it.

    Every format's own mutations and the general ones take turns. Returns ``accepted`` or ``refused: <line>``, after the
    name of the mutation. Raises :class:`Finding` for anything else.
    """
    target = TARGETS[name]
    rng = np.random.default_rng([seed, number])
    mutations = {**GENERAL, **target.mutations()}
    kind = list(mutations)[number % len(mutations)]
    for file, data in mutations[kind](target.files(), rng).items():
        (folder / file).write_bytes(data)
    where = f"{name} round {number} of seed {seed} ({kind})"
    try:
        target.read(folder)
    except PipeloomError as error:
        line = str(error)
        if not line.isprintable():
            raise Finding(f"{where}: the refusal is not one printable line: {line!r}") from error
        if not re.search(target.says.replace("{folder}", re.escape(str(folder))), line):
            raise Finding(f"{where}: the refusal does not say where: {line}") from error
        return f"{kind}: refused: {line}"
    except Exception as error:
        raise Finding(f"{where}: {type(error).__name__}: {error}") from error
    return f"{kind}: accepted"


def run_here(name: str, seed: int, rounds: Sequence[int]) -> Counter:
    """Rounds in this process. Returns how often a mutation was accepted and refused, as ``(mutation, outcome)``."""
    counts: Counter = Counter()
    for number in rounds:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            kind, outcome = one_round(name, seed, number, Path(folder)).split(": ")[:2]
        counts[kind, outcome] += 1
    return counts


def run_in_children(
    name: str, seed: int, rounds: int, command: Optional[Sequence[str]] = None, limit: float = ROUND_SECONDS
) -> Tuple[Counter, List[str]]:
    """Rounds in a child process, which is replaced when it dies or hangs. Returns the counts and the findings, a line
    each.

    ``command`` stands in for the child in a test; it gets the first round and the one after the last.
    """
    command = command or [sys.executable, "-u", str(Path(__file__).resolve()), "--child", name, str(seed)]
    counts: Counter = Counter()
    findings: List[str] = []
    first = 0
    while first < rounds:
        child = subprocess.Popen([*command, str(first), str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        current = first
        for line in _lines(child, limit):
            if line.startswith("begin "):
                current = int(line.split()[1])
            else:
                what, _, text = line.partition(" ")
                if what == "finding":
                    findings.append(text)
                counts[what] += 1
                first = current + 1
        code = child.poll()
        hung = code is None
        if hung:
            child.kill()
            code = child.wait()
        child.stdout.close()
        if first < rounds or code:  # it did not come to its end
            how = f"hangs: more than {limit:g} s" if hung else f"the process ended with {code}"
            findings.append(f"{name} round {current} of seed {seed}: {how}")
            counts["hung" if hung else "crashed"] += 1
            first = current + 1
    return counts, findings


def _lines(child: subprocess.Popen, limit: float) -> Iterator[str]:
    """The lines of a child until it ends, or until none has come for ``limit`` seconds."""
    rest, last = b"", time.monotonic()
    while time.monotonic() - last < limit:
        if not select.select([child.stdout], [], [], 0.2)[0]:
            continue
        data = child.stdout.read1(65536)
        if not data:
            try:
                child.wait(limit)
            except subprocess.TimeoutExpired:
                pass
            return
        last = time.monotonic()
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)


def _be_child(name: str, seed: int, first: int, end: int) -> None:
    for number in range(first, end):
        print(f"begin {number}")
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            try:
                print(one_round(name, seed, number, Path(folder)).split(": ")[1])
            except Finding as finding:
                print("finding", repr(str(finding)))


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] == "--child":
        _be_child(arguments[1], *map(int, arguments[2:]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=sorted(TARGETS), help="default: all")
    parser.add_argument("--only", type=int, metavar="ROUND", help="this round, in this process")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="with --only: where its files stay")
    options = parser.parse_args(arguments)
    names = [options.target] if options.target else sorted(TARGETS)
    if options.only is not None:
        folder = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                print(one_round(name, options.seed, options.only, folder))
            except Finding:
                traceback.print_exc()
                return 1
        return 0
    bad = 0
    for name in names:
        counts, findings = run_in_children(name, options.seed, options.rounds)
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
        for finding in findings:
            print(f"  {finding}")
        bad += len(findings)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
