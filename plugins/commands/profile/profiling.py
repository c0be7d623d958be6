"""What ``profile`` runs: ranks that measure devices and networks, and a few layouts whose steps are timed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.launch.processes import die_with, own_command
from pipeloom.core.planning.cost.cluster_file import write_machines
from pipeloom.core.planning.cost.fit import CPU_PRIORS, PRIORS, Prior, choose_rows, fit, usual_machines
from pipeloom.core.planning.cost.hardware import Machines
from pipeloom.core.planning.cost.search import LayoutCandidate, Search
from pipeloom.core.planning.machines import known_machines
from pipeloom.core.planning.ranking import describe_candidate
from pipeloom.plugins.commands.plan.planned import Planned
from pipeloom.plugins.commands.profile.networks import networks_of

#: A BERT that runs everywhere, where no model is given.
_MODEL = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "train_global_batch_size": 16,
          "vocab_size": 30522}  # fmt: skip
_PLUGINS = "bert,wiki_ofrecord,-tensorboard"
_STEPS, _WARM = 7, 2
#: Layouts whose step is predicted to take longer than this many seconds are not run.
_LONGEST = 8.0
_IN_RANK = "pipeloom.plugins.commands.profile.in_rank"


def profile_cluster(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Measure the cluster that ``rest`` describes, print what was found, and write the file; returns 0."""
    given = _with_model(rest)
    planned = Planned.of(["--plugins", f"data_parallel,{_PLUGINS}", *given] if "--plugins" not in given else given)
    job = ProfiledJob(planned, given)
    print(f"profile    {planned.plan.cluster}, {planned.plan.model.name} with {planned.plan.model.size / 1e6:.1f} M "
          "parameters; devices and networks first", flush=True)  # fmt: skip
    measured = job.devices_and_networks()
    machines, lines = machines_of(planned, measured, options.name)
    print("\n".join(f"           {line}" for line in lines), flush=True)
    machines = _calibrated(job, machines, options.rows)
    if job.has_rank_0:
        write_machines(options.output, machines, f"measured by 'profile' on {planned.plan.cluster}")
        print(f"written    {options.output}: give it as --cluster {options.output}")
    return 0


def _with_model(rest: Sequence[str]) -> List[str]:
    words = list(rest)
    named = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
    if "plugins" in named or "config" in named:
        return words
    for name, value in _MODEL.items():
        if name not in named:
            words += [f"--{name}", str(value)]
    return words


@dataclass(frozen=True)
class ProfiledJob:
    """A job that is run again and again with other layouts."""

    planned: Planned
    given: Sequence[str]

    @property
    def has_rank_0(self) -> bool:
        """Whether this is the node that writes what was found."""
        return self.planned.plan.config.node_rank in (None, 0)

    def devices_and_networks(self) -> Dict[str, Any]:
        """Return what the ranks measure of themselves and of each other."""
        with tempfile.TemporaryDirectory(prefix="pipeloom-profile-") as folder:
            file = Path(folder) / "measured.json"
            flags = ["--train_steps", "1", "--profile_of_ranks", str(file), "--grad_acc_steps", "1"]
            self._run("data_parallel", [_IN_RANK], flags, Path(folder) / "run")
            return json.loads(file.read_text())

    def seconds(self, one: LayoutCandidate) -> float:
        """Return the seconds of a step in a layout."""
        strategy = "data_parallel" if one.layout.pipeline == 1 else one.order
        flags = ["--train_steps", str(_STEPS), "--split", ",".join(map(str, one.layout.split))]
        for name, value in one.options.items():
            flags += [f"--{name}", str(value)]
        with tempfile.TemporaryDirectory(prefix="pipeloom-profile-") as folder:
            directory = Path(folder) / "run"
            self._run(strategy, ["manual"], flags, directory)
            if not self.has_rank_0:
                return 1.0  # what is fitted to it is not written
            lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        rates = [line["samples_per_second"] for line in lines if line["step"] > _WARM]
        return self.planned.plan.config.train_global_batch_size / statistics.median(rates)

    def _run(self, strategy: str, plugins: Sequence[str], flags: Sequence[str], directory: Path) -> None:
        command = [*own_command(), "train", "--plugins", ",".join([strategy, *plugins, _PLUGINS])]
        command += [*self.given, *flags, "--log_every", "1", "--save_every", "0", "--output_dir", str(directory)]
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
            raise RunError(f"a run of profile failed ({strategy} {' '.join(flags)}): {last}")


def machines_of(planned: Planned, measured: Mapping[str, Any], name: "str | None") -> Tuple[Machines, List[str]]:
    """Return the machines by what was measured, with constants as they usually are, and lines about it."""
    guess = known_machines(planned.plan.config.replace(cluster_file=None), planned.plan.cluster).machines
    ranks, lines = measured["ranks"], []
    device, sharing = guess.device, guess.sharing
    if ranks and all(row["together"] for row in ranks):
        together = statistics.median(row["together"] for row in ranks)
        alone = max(row["alone"] or 0.0 for row in ranks) or together
        sharing = max(1.0, alone / together)
        sharing = 1.0 if sharing < 1.15 else sharing
        precision = "float16" if planned.plan.config.precision == "amp" else "float32"
        copy = statistics.median(row["copy"] for row in ranks)
        bandwidth = copy if device.type == "cpu" else device.memory_bandwidth
        device = replace(device, peak={**device.peak, precision: alone}, memory_bandwidth=bandwidth)
        lines.append(
            f"products at {alone / 1e9:,.1f} GFLOP/s for a rank alone, {together / 1e9:,.1f} for each of {len(ranks)} "
            f"at once: {sharing:.2f} ranks share a device; memory {bandwidth / 1e9:,.1f} GB/s"
        )
    networks, more = networks_of(measured)
    machines = replace(
        guess,
        name=name or f"{planned.plan.cluster}",
        device=device,
        sharing=sharing,
        inside=networks.get("inside", guess.inside),
        between=networks.get("between", guess.between),
    )
    return machines, lines + more


def _calibrated(job: ProfiledJob, machines: Machines, count: int) -> Machines:
    """Run a few layouts, chosen by rule, and fit the constants to their steps."""
    planned = job.planned
    priors = priors_of(machines)
    if machines.device.type == "cpu":  # what messages reach was measured by messages
        machines = replace(machines, calibration=replace(machines.calibration, sends=1.0))
    start = usual_machines(machines, priors)
    config = planned.plan.config
    assert planned.plan.choices is not None
    model = planned.plan.choices.model
    half = config.precision == "amp"

    def search(there: Machines) -> Search:
        return Search(there, model, config.train_global_batch_size, config.seq_length, half, {"recompute": "none"})

    known = search(start)
    candidates = [known.play(one) for one in known.candidates() if one.options["shard"] != "parameters"]
    candidates = [one for one in candidates if one.seconds < _LONGEST]
    if not candidates:
        raise UsageError("profile: no layout of this job is quick enough to be run: give a smaller model")
    predicts = [partial(_predicted, search, one) for one in candidates]
    chosen = choose_rows(start, predicts, count, priors)
    seconds = []
    for number in chosen:
        seconds.append(job.seconds(candidates[number]))
        print(f"           {seconds[-1]:.4g} s a step: {describe_candidate(candidates[number])}", flush=True)
    found = fit(start, [predicts[number] for number in chosen], seconds, priors)
    errors = [predicts[number](found.machines) / one - 1 for number, one in zip(chosen, seconds)]
    constants = ", ".join(f"{name} {getattr(found.machines.calibration, name):.3g}" for name in priors)
    print(f"           constants: {constants}; these steps are predicted to "
          f"{statistics.mean(map(abs, errors)):.1%} on average", flush=True)  # fmt: skip
    return found.machines


def priors_of(machines: Machines) -> Mapping[str, Prior]:
    """Return the constants to fit: none of networks that are not there."""
    priors = CPU_PRIORS if machines.device.type == "cpu" else PRIORS
    size = machines.cluster.size
    gone = {"between"} if machines.nodes == 1 else set()
    gone |= {"inside", "sync", "overlap"} if size == 1 else set()
    return {name: prior for name, prior in priors.items() if name not in gone}


def _predicted(search: Any, one: LayoutCandidate, machines: Machines) -> float:
    return search(machines).model_of(one.layout).cost(one.layout).step
