"""``entry.py report RUN``: what a run did beside what was predicted of it; with ``--html`` a page with its curves."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command

#: Curves that a page shows, as far as a run has them.
_CURVES = ("loss", "samples_per_second", "lr", "grad_norm")
#: The first steps compile and warm up.
_WARM = 2
#: More points than this are thinned out.
_MOST_POINTS = 600


def report_command(arguments: Sequence[str]) -> int:
    """Print predicted beside measured figures of a run, write the page that is asked for, and return the exit code."""
    parser = Parser(prog="entry.py report", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--cluster", metavar="FILE", help="cluster.yaml to predict with (default: that of the run)")
    parser.add_argument("--html", metavar="FILE", help="write the page of its plan, with what was measured")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args([normalize(argument) for argument in arguments])
    folder = Path(options.run)
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"report {options.run}: this is no folder of a run: it has no config.yaml")
    from pipeloom.plugins.commands.plan.content import content_of
    from pipeloom.plugins.commands.plan.planned import Planned

    given = ["--config", str(folder / "config.yaml")]
    planned = Planned.of([*given, *(["--cluster", options.cluster] if options.cluster else [])])
    lines = _lines(folder / "metrics.jsonl")
    content = content_of(planned)
    rows = predicted_and_measured(content, lines, _summary(folder))
    if options.json:
        print(json.dumps([dict(zip(("figure", "predicted", "measured"), row)) for row in rows], indent=1))
    else:
        print(f"run        {folder}, {len(lines)} logged steps; predicted with {planned.known.source}")
        for name, predicted, measured in rows:
            print(
                f"{name:<26} {_text(predicted):>12} predicted {_text(measured):>12} measured{_off(predicted, measured)}"
            )
    if options.html:
        from pipeloom.plugins.commands.plan.drawing import write_text
        from pipeloom.plugins.commands.plan.page import page_of, run_part

        shown = [[name, (p, _text(p)), (m or 0.0, _text(m)), (p, _off(p, m).strip(" ()"))] for name, p, m in rows]
        write_text(options.html, page_of(content, run_part(shown, curves(lines))))
        print(f"page       {options.html}")
    return 0


def predicted_and_measured(
    content: Mapping[str, Any], lines: Sequence[Mapping[str, float]], summary: Mapping[str, Any]
) -> List[Tuple[str, float, Optional[float]]]:
    """Return figures with what was predicted and what was measured of each, ``None`` where nothing was."""
    step = content["step"]
    rates = [line["samples_per_second"] for line in lines if line.get("step", 0) > _WARM and line["samples_per_second"]]
    rate = statistics.median(rates) if rates else None
    samples = content["options"]["train_global_batch_size"]
    bubble = step["terms"].get("bubble", 0.0) / step["seconds"]
    return [
        ("seconds a step", step["seconds"], samples / rate if rate else None),
        ("samples a second", step["samples_per_second"], rate),
        ("tokens a second", step["tokens_per_second"], rate * content["options"]["seq_length"] if rate else None),
        ("MFU", step["mfu"], summary.get("mfu")),
        ("waiting for other stages", bubble, summary.get("bubble")),
    ]


def curves(lines: Sequence[Mapping[str, float]]) -> Dict[str, List[List[float]]]:
    """Return ``[step, value]`` of each curve of a run, thinned out where they are many."""
    found: Dict[str, List[List[float]]] = {}
    for name in _CURVES:
        points = [[line["step"], line[name]] for line in lines if name in line and "step" in line]
        if name == "samples_per_second":
            points = points[_WARM:]
        every = -(-len(points) // _MOST_POINTS) if points else 1
        found[name.replace("_", " ")] = points[::every]
    return found


def _lines(file: Path) -> List[Dict[str, Any]]:
    if not file.is_file():
        raise UsageError(f"{file}: the run has logged no step yet")
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last one of a run that still writes
        if "samples_per_second" in row:
            found.append(row)
    return found


def _summary(folder: Path) -> Dict[str, Any]:
    file = folder / "summary.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _text(value: Optional[float]) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _off(predicted: float, measured: Optional[float]) -> str:
    return f"  ({predicted / measured - 1:+.0%})" if measured else ""


COMMAND = Command("report", "what a run did beside what was predicted", report_command)
