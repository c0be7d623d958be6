"""What the pages of figures say about where and from what they were measured."""
from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """Processor, cores and memory, in a phrase."""
    try:
        model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def origin(command: str, seconds: float) -> str:
    """The command, date, commit, machine and time of a page: ``\\`python ...\\`, 2026-..., on top of commit ...``."""
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip() or "unknown"
    return f"`{command}`, {datetime.date.today()}, on top of commit {commit}, {machine()}; {max(1, round(seconds / 60))} minutes."


def records_beside_the_checkout():
    """The public Wikipedia records where they lie beside the checkout, else ``None``."""
    records = ROOT.parent / "shared" / "data" / "wiki_ofrecord_seq_len_128"
    return str(records) if records.exists() else None
