"""``plan --search --measure N``: the best layouts of a search, each run for a few steps."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.host.plugin_manager import hooks_of, load_plugin
from pipeloom.core.launch.processes import die_with, own_command
from pipeloom.core.planning.cost.search import LayoutCandidate
from pipeloom.core.planning.machines import cluster_of_file
from pipeloom.core.planning.ranking import describe_candidate, flags_of
from pipeloom.plugins.commands.plan.alternatives import Alternatives

#: Steps of a run; the first ones compile and warm up.
_STEPS, _WARM = 8, 3
_LAYING_OUT = {"pipeloom_choose_layout", "pipeloom_partition", "pipeloom_place"}


def measure_layouts(alternatives: Alternatives, count: int) -> Tuple[List[str], List[Dict[str, Any]]]:
    """Run the ``count`` best layouts for a few steps. Raises ``UsageError`` where this is not the cluster."""
    planned = alternatives.planned
    there = cluster_of_file(planned.config)
    if there is not None and there.device_type == "cuda" and planned.config.device != "cuda":
        raise UsageError("--measure runs on the cluster that it is given on, and --cluster is of another one")
    rows: List[Dict[str, Any]] = []
    for one in alternatives.found.best[:count]:
        seconds = run_layout(planned, one)
        row: Dict[str, Any] = {"text": describe_candidate(one), "predicted": one.seconds, "seconds": seconds}
        rows.append({**row, "flags": flags_of(one)})
    best = min(rows, key=lambda row: row["seconds"])
    lines = [f"measured   {_STEPS} steps of each, the median of the last {_STEPS - _WARM}:"]
    for row in rows:
        off = row["predicted"] / row["seconds"] - 1
        lines.append(f"     {row['seconds']:.4g} s (predicted {row['predicted']:.4g}, {off:+.0%})  {row['text']}")
    return [*lines, f"quickest   {best['text']}", f"take it by  {best['flags']}"], rows


def run_layout(planned: Any, one: LayoutCandidate, flags: Sequence[str] = ()) -> float:
    """Return the measured seconds of a step of a layout. Raises ``RunError``, with the end of what the run said."""
    config = planned.config.replace(
        **one.options, micro_batch=None, train_steps=_STEPS, epochs=None, log_every=1, output_dir=None, save_every=0,
        stop_at=None, eval_every=None,
    )  # fmt: skip
    others = [name for name in config.plugins if name.startswith("-") or not _lays_out(name)]
    strategy = "data_parallel" if one.layout.pipeline == 1 else one.order
    with tempfile.TemporaryDirectory(prefix="pipeloom-plan-") as folder:
        file, directory = Path(folder) / "config.yaml", Path(folder) / "run"
        file.write_text(config.to_yaml(), encoding="utf-8")
        command = [*own_command(), "train", "--config", str(file), "--plugins", ",".join([strategy, "manual", *others])]
        command += ["--split", ",".join(map(str, one.layout.split)), "--output_dir", str(directory), *flags]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=outside_environment(os.environ),
            preexec_fn=partial(die_with, os.getpid()),
        )
        if done.returncode:
            last = " / ".join(done.stdout.strip().splitlines()[-2:])
            raise RunError(f"the run of '{describe_candidate(one)}' failed: {last}")
        lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    rates = [line["samples_per_second"] for line in lines if line["step"] > _WARM]
    return config.train_global_batch_size / statistics.median(rates)


def _lays_out(name: str) -> bool:
    return bool(_LAYING_OUT & set(hooks_of(load_plugin(name)[0])))
