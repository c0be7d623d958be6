"""The training loop of a rank."""
from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Optional

import numpy as np

from pipeloom.core.engine import import_oneflow

flow = import_oneflow()

from pipeloom.core.executor.axes import axes_of  # noqa: E402  (after the engine was imported quietly)
from pipeloom.core.executor.feed import Feed  # noqa: E402
from pipeloom.core.executor.graph import PipelineGraph, StepSettings  # noqa: E402
from pipeloom.core.executor.stages import build_stages, stage_packings  # noqa: E402
from pipeloom.core.executor.updates import Updates  # noqa: E402
from pipeloom.core.huggingface import initial_values, settle, starting_point  # noqa: E402
from pipeloom.core.metrics import StepMeter  # noqa: E402
from pipeloom.core.plan import Plan  # noqa: E402
from pipeloom.core.run import FINAL_WEIGHTS, Run  # noqa: E402


class Trainer:
    """Builds the graph of a plan and steps it. All ranks make the same calls in the same order."""

    def __init__(self, run: Run) -> None:
        plan, config = run.plan, run.config
        self.run, self.hook = run, run.plugins.hook
        packings = stage_packings(plan.model, plan.split, plan.dataset.fields)
        axes = axes_of(plan.placement, plan.mesh.tensor, config.shard)
        values = initial_values(plan.model, config.seed)
        self.stages, held = build_stages(plan.model, plan.split, axes, packings, plan.cluster.device_type, values)
        #: Each parameter by name, with its spec; of copies the last, which is the owner's.
        self.parameters = {spec.name: (spec, tensor) for stage in held for spec, tensor in stage}
        self.schedule = self.hook.pipeloom_lr_schedule(config=config)
        self.updates = Updates(held, axes, values, lambda parameters: self.hook.pipeloom_build_optimizer(
            config=config, parameters=parameters), self.schedule)
        settings = StepSettings(config.grad_acc_steps, plan.recomputed(), config.clip_grad_norm, config.loss_scale,
                                config.precision == "amp")
        self.graph = PipelineGraph(plan.model, plan.split, axes, self.stages, held, settings, self.updates)
        self.feed = Feed(plan.dataset, plan.order(), plan.placement, axes, packings, plan.model.normalize, config.seed, run.rank)
        self.meter = StepMeter(plan.model.outputs, plan.model.losses, config.train_global_batch_size,
                               config.seq_length, run.total_steps)
        self.everywhere = flow.placement(plan.cluster.device_type, list(range(plan.cluster.size)))

    def train(self) -> None:
        """All steps of the run, or those up to one on which all ranks have agreed to stop."""
        for step in range(self.run.total_steps):
            if not self.run.link.begin_step(step + 1):
                self.run.stopped_after = step
                break
            outputs = self.graph(*self.feed.inputs(step))
            number, metrics = step + 1, None
            self.updates.after_step(number)
            if number == 1 or number % self.run.config.log_every == 0 or number == self.run.total_steps:
                metrics = self.meter.measure(number, self.read(outputs), self.schedule.at(step), self.read_norms())
            if number == 1:
                self.run.say(f"first step {time.time() - self.run.started:.1f} s after the start")
            self.hook.pipeloom_on_step_end(run=self.run, step=number, metrics=metrics)

    def save_final_weights(self) -> None:
        """Write every parameter, by name, into the run directory; whole or not at all."""
        from safetensors.numpy import save_file

        self.run.link.busy("writing the final weights", 600)
        weights = {name: np.ascontiguousarray(self.read(tensor)[tuple(map(slice, spec.shape))])    # without what fills it up
                   for name, (spec, tensor) in self.parameters.items()}                               # all ranks take part
        if self.run.is_main:
            path = self.run.directory / FINAL_WEIGHTS
            save_file(weights, str(path) + ".writing")
            os.replace(str(path) + ".writing", path)

    def read_norms(self) -> float:
        """Sum of the gradient norms, before clipping, of the steps since it was last read."""
        total = self.graph.norm_record[0].total
        value = float(self.read(total)[0])
        with flow.no_grad():
            total.zero_()
        return value

    def read(self, outputs):
        """The outputs of a step as numpy, on every rank; waits for the devices."""
        return outputs.to_global(placement=self.everywhere, sbp=flow.sbp.broadcast).to_local().numpy()


def train_in_rank(plan: Plan, plugins, directory: Path, rank: int) -> int:
    """A rank's whole life: build, train, close. Returns 0; errors pass through to ``run_rank``."""
    run = Run(settle(plan), plugins, directory, rank)
    run.open()
    error: Optional[BaseException] = None
    try:
        run.say(f"run        {os.path.relpath(directory)}")
        run.say(plan.describe())
        for line in starting_point(plan.model):
            run.say(line)
        trainer = Trainer(run)
        plugins.hook.pipeloom_on_run_start(run=run)
        run.say("compiling the graph ...")
        trainer.train()
        if run.config.save_final_weights:
            trainer.save_final_weights()
    except BaseException as raised:
        error = raised
        raise
    finally:
        plugins.hook.pipeloom_on_run_end(run=run, error=error)
        run.close()
    return 0
