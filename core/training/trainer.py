"""The training loop of a rank."""

from __future__ import annotations

import collections
import time
from typing import Any, Dict, Optional, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import replace_file
from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.manifest import Position
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.contract.executor import ProgramSpec, StepSettings
from pipeloom.core.contract.loss_scale import DYNAMIC
from pipeloom.core.data.batches import HeldOutBatches, TrainingBatches
from pipeloom.core.host.initial_distributions import find_distributions
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.core.training.checkpointing import Checkpointing
from pipeloom.core.training.efficiency import LEFT_OUT, Efficiency, RunSummary, TimeBook
from pipeloom.core.training.metrics import StepMeter, check_evaluation
from pipeloom.core.training.phases import ReadInPhase
from pipeloom.core.training.run import FINAL_WEIGHTS, Run
from pipeloom.core.training.scaling import LossScaling, rule_of
from pipeloom.core.training.scoring import ScoredEvaluation
from pipeloom.core.training.watch import Damage, LossWatch

#: So long may an evaluation or the writing of weights take before a rank that waits is taken as hanging, in seconds.
EVALUATION_SECONDS = WRITING_SECONDS = 1800


class Trainer:
    """Train by the plan of a run. All ranks make the same calls in the same order."""

    def __init__(self, run: Run, checkpoint: Optional[Checkpoint] = None) -> None:
        plan, config = run.plan, run.config
        self.run, self.hook = run, run.plugins.hook
        run.link.page.enter("building the program")
        drawn = initial_values(plan.model, config.seed, find_distributions(run.plugins, config))
        executor = self.hook.pipeloom_executor(config=config)
        executor.start()
        for line in executor.describe():
            run.say(line)
        self.collectives = executor.collectives(plan.cluster, run.rank)
        self.program = executor.build(
            ProgramSpec(
                plan.model,
                plan.split,
                plan.placement,
                plan.mesh,
                plan.fields,
                run.rank,
                drawn if checkpoint is None else checkpoint.parameter,
                config.shard,
                config.precision == "amp",
            )
        )
        order = plan.order()
        self.schedule = self.hook.pipeloom_lr_schedule(config=config)
        self.training = self.program.train(
            StepSettings(
                config.grad_acc_steps,
                plan.recomputed(),
                config.clip_grad_norm,
                1.0 if config.loss_scale == DYNAMIC else config.loss_scale,
                rule_of(config),
            ),
            self.hook.pipeloom_build_optimizer(config=config, parameters=list(plan.model.parameters)),
            self.schedule,
            ReadInPhase(
                TrainingBatches(plan.dataset, order, plan.model.normalize, config.seed, plan.added), run.phases
            ),
        )
        self.evaluator = self._make_evaluator(plan.evaluation) if plan.evaluation is not None else None
        self.watch = LossWatch(plan.model.outputs, plan.model.losses, self._read, order.indices)
        self.book = TimeBook(run.started)
        run.phases.listeners.append(self.book.on_phase)
        # Known to the main rank, which logs.
        peak = executor.peak(plan.cluster, config) if run.is_main else None
        self.efficiency = Efficiency.of(plan, peak)
        self.summary = RunSummary(self.efficiency, self.book, config.seq_length)
        self.meter = StepMeter(config.train_global_batch_size, config.seq_length, run.total_steps)
        self.position = Position()
        self.metrics: Dict[str, float] = {}
        #: The evaluation after the last step; empty where there was none.
        self.evaluation: Dict[str, float] = {}
        if checkpoint is not None:
            self._go_on_from(checkpoint)
        self.scaling = LossScaling(config, run.say)
        self.scaling.begin(self.training.state, self.position)
        run.training, run.collectives = self.training, self.collectives
        self.checkpoints = Checkpointing(run, self.training.state, self.collectives)

    def _read(self, handle: Any) -> Tuple[np.ndarray, float]:
        with self.run.phases.phase("wait for the loss"):
            return self.training.read(handle)

    def _make_evaluator(self, held_out: Dataset) -> ScoredEvaluation:
        run, plan = self.run, self.run.plan
        absent = list(absent_labels(plan.model, held_out).values())
        # A micro-batch of training on each data-parallel rank: no more memory at once.
        size = plan.micro_batch_size * plan.mesh.data
        batches = HeldOutBatches(held_out, size, plan.model.normalize, absent, plan.added)
        evaluator = self.program.evaluator(batches, held_out.scored)
        return ScoredEvaluation(evaluator, held_out, run.directory, run.is_main, self.collectives, plan.derived_figures)

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        manifest, state = checkpoint.manifest, self.training.state
        position, kinds = dict(manifest.position), manifest.optimizer_kinds
        if manifest.optimizer != state.optimizer_name:
            self.run.say(
                f"resume     the optimizer begins anew: the checkpoint has the state of {manifest.optimizer}, "
                f"not of {state.optimizer_name}"
            )
            kinds = []
        state.load_optimizer(kinds, position["step"], checkpoint.optimizer)
        state.set_norm_sum(position["norm_sum"])
        self.position = Position.of(position)
        self.metrics = dict(manifest.metrics)
        self.run.start_step = self.run.done_steps = self.position.step

    def train(self) -> None:
        """Make the steps of the run, from where it is to its end or to where all ranks have agreed to stop."""
        while self.position.step < self.run.total_steps:
            number = self.position.step + 1
            if not self.run.link.begin_step(number):
                self._stop()
                break
            began = time.perf_counter()
            if self._step(number):
                self._after_step(number)
            else:
                self.book.lose(LEFT_OUT, time.perf_counter() - began)
        self._sum_up()

    def _sum_up(self) -> None:
        """Say and write what the run made of its time."""
        steps = self.run.done_steps - self.run.start_step
        if not self.run.is_main or steps <= 0:
            return
        for line in self.summary.lines(steps):
            self.run.say(line)
        try:
            self.summary.write(self.run.directory, steps)
        except OSError as error:
            raise RunError(f"cannot write into {self.run.directory}: {error.strerror or error}") from error

    def _stop(self) -> None:
        """Leave before the last step, with a checkpoint.

        That this is the place is known only now: while the step before ended, some ranks may not have heard of it yet.
        """
        run, step = self.run, self.position.step
        if self.checkpoints.enabled and step != self.checkpoints.saved_step:
            self._check()
            self._save()
        self.checkpoints.finish(step, last=True)
        goes_on = "; go on with --resume" if self.checkpoints.enabled else ""
        run.say(f"stopped after step {step} of {run.total_steps}, as asked{goes_on}")

    def _step(self, number: int) -> bool:
        """Make step ``number``; return false if it was taken back, or left out by the loss scale."""
        skips = self.run.config.on_nan == "skip"
        if skips:
            self.training.state.backup()
        with self.run.phases.phase("launch"):
            handle = self.training.step(self.position.data_step)
        self.watch.note(number, self.position.data_step, handle)
        self.position.data_step += 1
        damage = self.watch.look() if skips else None
        if damage is not None:
            self._take_back(damage)
            return False
        if self.scaling.is_dynamic and not skips:
            self._check()
        if self.scaling.left_out(self.training.state, self.position, number):
            return False
        self.training.finish_step(number)
        self.position.step = self.run.done_steps = number
        return True

    def _take_back(self, damage: Damage) -> None:
        limit = self.run.config.nan_limit
        self.training.state.restore()
        self.position.skipped += 1
        if self.position.skipped > limit:
            self.checkpoints.finish(self.position.step)
            raise RunError(f"{damage}: {self.position.skipped} batches were left out, more than --nan_limit {limit}")
        self.run.say(f"left out: {damage} ({self.position.skipped} of at most {limit})")

    def _after_step(self, number: int) -> None:
        """Log, evaluate and save after step ``number``, as far as each is due."""
        run, config = self.run, self.run.config
        last, first = number == run.total_steps, number == run.start_step + 1
        logs = first or last or number % config.log_every == 0
        evaluates = self.evaluator is not None and (last or _is_due(number, config.eval_every))
        saves = self.checkpoints.enabled and (last or _is_due(number, config.save_every))
        if logs or saves or evaluates:
            self._check()
        if logs:
            self.metrics = self._measure(number)
        if first:
            run.say(f"first step {time.time() - run.started:.1f} s after the start")
            self.book.start_over()
        with run.phases.phase("plugins"):
            self.hook.pipeloom_on_step_end(run=run, step=number, metrics=self.metrics if logs else None)
        self.evaluation = self._evaluate(number) if evaluates else {}
        is_best = evaluates and self.checkpoints.is_best(self.evaluation)
        if saves or is_best:
            self._save()
        if last:
            self.checkpoints.finish(number, last=True)
        self.checkpoints.report(number)

    def _check(self) -> None:
        """Read the losses so far. Raises ``RunError`` for damage; a checkpoint under way is whole before that."""
        try:
            self.watch.check()
        except RunError:
            self.checkpoints.finish(self.position.step)
            raise

    def _measure(self, number: int) -> Dict[str, float]:
        """Return the metrics of a log line; its gradient norm is the mean since the last one."""
        mean = self.watch.norm_sum / (number - self.position.norm_since)
        self.training.state.set_norm_sum(0.0)
        self.watch.norm_sum, self.position.norm_since = 0.0, number
        metrics = self.meter.measure(number, self.watch.losses, self.schedule.at(number - 1), mean)
        self.summary.note(metrics)
        metrics.update(self.efficiency.metrics(metrics["samples_per_second"]), goodput=self.book.goodput)
        return metrics if self.scaling.scale is None else {**metrics, "loss_scale": self.scaling.scale}

    def _evaluate(self, number: int) -> Dict[str, float]:
        assert self.evaluator is not None
        started = time.perf_counter()
        self.run.link.busy("evaluating", EVALUATION_SECONDS)
        with self.run.phases.phase("evaluation"):
            evaluation = self.evaluator.evaluate(number)
        check_evaluation(number, evaluation)
        with self.run.phases.phase("plugins"):
            self.hook.pipeloom_on_evaluate(run=self.run, step=number, metrics=evaluation)
        self.meter.leave_out(time.perf_counter() - started)
        return evaluation

    def _save(self) -> None:
        """Begin a checkpoint of this moment. Only after ``_check``: it must not hold damage."""
        with self.run.phases.phase("checkpoint"):
            self.checkpoints.save(self.position, self.watch.norm_sum, self.metrics, self.evaluation)

    def save_final_weights(self) -> None:
        """Write every parameter, by name, into the run directory; whole or not at all."""
        self.run.link.busy("writing the final weights", WRITING_SECONDS)
        kinds = {spec.name: (np.dtype(np.float32), spec.shape) for spec in self.program.parameters}
        # One after the other, all ranks take part.
        weights = self.program.weights()
        if self.run.is_main:
            replace_file(self.run.directory / FINAL_WEIGHTS, tensors.streamed(kinds, weights))
        else:
            collections.deque(weights, maxlen=0)


def _is_due(number: int, every: Optional[int]) -> bool:
    return bool(every and number % every == 0)
