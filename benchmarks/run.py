"""The laboratory: python benchmarks/run.py [NAME ...] [--quick] [--page]

Measures each experiment (all of them without a NAME, about 40 minutes), writes what it found to
benchmarks/results/DATE-NAME.json, and with --page docs/performance.md from the newest result of each. A machine that
does other work shows that work.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.experiments import ASKED_FOR, NAMES  # noqa: E402  (the checkout is on the path now)
from benchmarks.machine import machine  # noqa: E402

RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
LEVERS = ROOT / "benchmarks" / "experiments" / "levers.md"


def measure(name: str, lab: Any) -> Dict[str, Any]:
    """Run an experiment and return its result with where, when and from what it came."""
    began = time.time()
    found = importlib.import_module(f"benchmarks.experiments.{name}").run(lab)
    more = "".join(f" --{word}" for word in ("quick", "dry", "all_positions") if getattr(lab, word))
    return {
        "name": name,
        "date": str(datetime.date.today()),
        "machine": machine(),
        "command": f"python benchmarks/run.py {name}{more}",
        "commit": _commit(),
        "versions": {"python": sys.version.split()[0], "oneflow": metadata.version("oneflow")},
        "seconds": round(time.time() - began),
        "data": found,
    }


def page(results: Dict[str, Dict[str, Any]]) -> str:
    """Return docs/performance.md of results by name."""
    parts = [
        "# Performance\n\nWritten by `python benchmarks/run.py --page` from the newest files in `benchmarks/results/`. Each part says "
        "what was measured, when and on what machine."
    ]
    for name in (*NAMES, *ASKED_FOR):
        if name in results:
            parts.append(section(results[name]))
    if LEVERS.exists():
        parts.append(LEVERS.read_text().strip())
    return "\n\n".join(parts) + "\n"


def section(result: Dict[str, Any]) -> str:
    """Return the part of the page that shows a result."""
    experiment = importlib.import_module(f"benchmarks.experiments.{result['name']}")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    minutes = max(1, round(result["seconds"] / 60))
    return (
        f"## {experiment.PURPOSE}\n\n`{result['command']}`, {result['date']}, commit {result['commit']}, {result['machine']}, {versions}; "
        f"{minutes} minute{'s' * (minutes != 1)}.\n\n{experiment.render(result['data']).strip()}"
    )


def pictures(results: Dict[str, Dict[str, Any]], name: str) -> Dict[str, str]:
    """Return the pictures of an experiment by their file names in docs/images."""
    experiment = importlib.import_module(f"benchmarks.experiments.{name}")
    drawn = getattr(experiment, "pictures", None)
    return drawn(results[name]["data"]) if drawn is not None and name in results else {}


def newest(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Return the newest result of each experiment in a folder."""
    found: Dict[str, Dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        dated = re.fullmatch(r"\d{4}-\d\d-\d\d-(\w+)\.json", path.name)
        if dated:
            found[dated.group(1)] = json.loads(path.read_text())
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def _arguments(given: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"experiments: {', '.join(NAMES)}; all without one; only by name: {', '.join(ASKED_FOR)}",
    )
    parser.add_argument("--list", action="store_true", help="say what each experiment is for")
    parser.add_argument("--quick", action="store_true", help="few repetitions; what is found is printed, not kept")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)} from the newest results")
    parser.add_argument("--render", action="store_true", help="measure nothing: print, or --page, what there is")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pipeloom-lab"
    parser.add_argument(
        "--folder", type=Path, default=default, help="of the environments of PyTorch and MKL (%(default)s)"
    )
    beside = ROOT.parent / "shared" / "data" / "wiki_ofrecord_seq_len_128"
    parser.add_argument("--ofrecord_path", default=str(beside) if beside.exists() else None, help="records to train on")
    parser.add_argument(
        "--dry", action="store_true", help="seed_table: say the commands; with --quick make tiny runs on CPUs"
    )
    parser.add_argument("--all_positions", action="store_true", help="seed_table: the decoder runs over all positions")
    parser.add_argument(
        "--train", default="", metavar="FLAGS", help="seed_table: further flags of training, on several nodes"
    )
    options = parser.parse_args(given)
    for name in options.names:
        if name not in (*NAMES, *ASKED_FOR):
            near = difflib.get_close_matches(name, (*NAMES, *ASKED_FOR), 1)
            parser.error(
                f"no experiment '{name}'{f', did you mean {near[0]}?' if near else ': --list says which there are'}"
            )
    return options


def main(given: Optional[List[str]] = None) -> int:
    options = _arguments(given)
    if options.list:
        for name in (*NAMES, *ASKED_FOR):
            print(f"{name:10} {importlib.import_module(f'benchmarks.experiments.{name}').PURPOSE}")
        return 0
    if not options.render:
        from benchmarks.experiments.lab import Lab

        lab = Lab(options.quick, options.folder, options.ofrecord_path, lambda line: print(line, flush=True))
        lab.dry, lab.all_positions, lab.train = options.dry, options.all_positions, options.train
        for name in options.names or NAMES:
            result = measure(name, lab)
            print(section(result), flush=True)
            folder = Path(tempfile.mkdtemp(prefix="pipeloom-lab-")) if options.quick or options.dry else RESULTS
            folder.mkdir(exist_ok=True)
            path = folder / f"{result['date']}-{name}.json"
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(f"written: {path}", flush=True)
    results = newest(RESULTS)
    if options.page:
        PAGE.write_text(page(results))
        for name in NAMES:
            for picture, text in pictures(results, name).items():
                (PAGE.parent / "images").mkdir(exist_ok=True)
                (PAGE.parent / "images" / picture).write_text(text)
    elif options.render:
        for name in options.names or NAMES:
            if name in results:
                print(section(results[name]), "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
