"""What the scripts that write pages of figures share: their command line, their jobs, and where and from what they
measured.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """Processor, cores and memory, in a phrase."""
    try:
        model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def origin(command: str, seconds: float) -> str:
    """The command, date, commit, machine and time of a page: ``\\`python ...\\`, 2026-..., on top of commit ...``."""
    commit = (
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout.strip()
        or "unknown"
    )
    return (
        f"`{command}`, {datetime.date.today()}, on top of commit {commit}, {machine()}; "
        f"{max(1, round(seconds / 60))} minutes."
    )


def page_parser(description: str, page: Path, records: bool = False) -> argparse.ArgumentParser:
    """The command line of a script that writes ``page``; ``records``: it trains on records that one may choose."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {page.relative_to(ROOT)}")
    if records:
        beside = ROOT.parent / "shared" / "data" / "wiki_ofrecord_seq_len_128"
        parser.add_argument(
            "--ofrecord_path",
            default=str(beside) if beside.exists() else None,
            help="records to train on (default: the public ones beside the checkout, else the built-in set)",
        )
    return parser


def entry(*arguments: Any) -> None:
    """Run ``entry.py`` as a job of its own, even where this process has become a rank. Raises
    ``CalledProcessError``.
    """
    from pipeloom.core.base.variables import outside_environment  # not above: some scripts run where pipeloom is not

    subprocess.run(
        [sys.executable, str(ROOT / "entry.py"), *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=outside_environment(os.environ),
    )
