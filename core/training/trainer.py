"""The training loop of a rank."""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from pipeloom.plugins.executors.oneflow.engine import import_oneflow

flow = import_oneflow()

from pipeloom.core.base.errors import PipeloomError, RunError  # noqa: E402  (after the engine was imported quietly)
from pipeloom.core.base.files import replace_file  # noqa: E402
from pipeloom.core.checkpoint import tensors  # noqa: E402
from pipeloom.core.checkpoint.describe import manifest_of, texts_of  # noqa: E402
from pipeloom.core.checkpoint.initialization import initial_values, starting_point  # noqa: E402
from pipeloom.core.checkpoint.loading import Checkpoint  # noqa: E402
from pipeloom.core.checkpoint.manifest import Position  # noqa: E402
from pipeloom.core.checkpoint.pretrained.folder import settle  # noqa: E402
from pipeloom.core.checkpoint.saver import Saver  # noqa: E402
from pipeloom.core.data.batches import TrainingBatches  # noqa: E402
from pipeloom.core.host.initial_distributions import find_distributions  # noqa: E402
from pipeloom.core.planning.plan import Plan  # noqa: E402
from pipeloom.core.training.metrics import StepMeter, check_evaluation  # noqa: E402
from pipeloom.core.training.run import FINAL_WEIGHTS, Run  # noqa: E402
from pipeloom.core.training.scoring import ScoredEvaluation  # noqa: E402
from pipeloom.core.training.watch import LossWatch  # noqa: E402
from pipeloom.plugins.executors.oneflow.axes import axes_of  # noqa: E402
from pipeloom.plugins.executors.oneflow.evaluation import Evaluator  # noqa: E402
from pipeloom.plugins.executors.oneflow.exchange import tell_all, tell_from_main  # noqa: E402
from pipeloom.plugins.executors.oneflow.feed import Feed  # noqa: E402
from pipeloom.plugins.executors.oneflow.graph import PipelineGraph, StepSettings  # noqa: E402
from pipeloom.plugins.executors.oneflow.stages import build_stages, stage_packings  # noqa: E402
from pipeloom.plugins.executors.oneflow.state import TrainingState  # noqa: E402
from pipeloom.plugins.executors.oneflow.updates import Updates  # noqa: E402

#: So long may a checkpoint take before a rank that waits for it is taken as hanging.
SAVE_SECONDS = EVALUATION_SECONDS = 1800
#: So long may a checkpoint under way take yet when this rank has failed. Other ranks may have gone, and then it is
#: never whole.
LAST_SAVE_SECONDS = 20.0


class Trainer:
    """Builds the graph of a plan and steps it. All ranks make the same calls in the same order."""

    def __init__(self, run: Run, checkpoint: Optional[Checkpoint] = None) -> None:
        plan, config = run.plan, run.config
        self.run, self.hook = run, run.plugins.hook
        self.everywhere = flow.placement(plan.cluster.device_type, list(range(plan.cluster.size)))
        drawn = initial_values(plan.model, config.seed, find_distributions(run.plugins, config))
        self._build(drawn if checkpoint is None else checkpoint.parameter)
        self.order = plan.order()
        self.watch = LossWatch(plan.model.outputs, plan.model.losses, self.read, self.order.indices)
        self.meter = StepMeter(config.train_global_batch_size, config.seq_length, run.total_steps)
        self.position, self.metrics, self.evaluation = Position(), {}, {}
        if checkpoint is not None:
            self._go_on_from(checkpoint)
        self.saver = self._make_saver() if config.save_every != 0 else None
        self.saved_step, self.evaluated_step = run.start_step, -1

    def _build(self, value_of) -> None:
        run, plan, config = self.run, self.run.plan, self.run.config
        packings = stage_packings(plan.model, plan.split, plan.dataset.fields)
        axes = axes_of(plan.placement, plan.mesh.tensor, config.shard)
        self.stages, held = build_stages(plan.model, plan.split, axes, packings, plan.cluster.device_type, value_of)
        #: Each parameter by name, with its spec; of copies the last, which is the owner's.
        self.parameters = {spec.name: (spec, tensor) for stage in held for spec, tensor in stage}
        self.schedule = self.hook.pipeloom_lr_schedule(config=config)
        self.updates = Updates(
            held,
            axes,
            value_of,
            lambda parameters: self.hook.pipeloom_build_optimizer(config=config, parameters=parameters),
            self.schedule,
        )
        settings = StepSettings(
            config.grad_acc_steps,
            plan.recomputed(),
            config.clip_grad_norm,
            config.loss_scale,
            config.precision == "amp",
        )
        self.graph = PipelineGraph(plan.model, plan.split, axes, self.stages, held, settings, self.updates)
        self.state = TrainingState(held, axes, self.updates, self.graph)
        batches = TrainingBatches(plan.dataset, plan.order(), plan.model.normalize, config.seed)
        self.feed = Feed(batches, plan.placement, axes, packings, run.rank)
        self.evaluator = None
        if plan.evaluation is not None:
            self.evaluator = ScoredEvaluation(
                Evaluator(plan, axes, self.stages, held, packings, run.rank, self.read, self.collect),
                plan.evaluation,
                run.directory,
                run.is_main,
                self._told(tell_from_main),
            )

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        manifest = checkpoint.manifest
        position = dict(manifest.position)
        kinds = manifest.optimizer_kinds
        if manifest.optimizer != self.state.optimizer_class:
            self.run.say(
                f"resume     the optimizer begins anew: the checkpoint has the state of {manifest.optimizer}, "
                f"not of {self.state.optimizer_class}"
            )
            kinds = []
        self.state.load_optimizer(kinds, position["step"], checkpoint.optimizer)
        self.state.set_norm_sum(position["norm_sum"])
        self.position = Position(position["step"], position["data_step"], position["skipped"], position["norm_since"])
        self.metrics = dict(manifest.metrics)
        self.run.start_step = self.run.done_steps = self.position.step

    def _make_saver(self) -> Saver:
        config = self.run.config
        saver = Saver(
            self.run.directory,
            self.state,
            self.run.rank,
            self._told(tell_all),
            config.keep,
            self.run.plan.goal,
            config.async_save,
            texts_of(self.run.plan.dataset),
            spare="keep" not in config.typed,
        )
        if not saver.shared:
            self.run.say(
                f"note: not every node sees {self.run.directory}: checkpoints are gathered and written by rank 0"
            )
        return saver

    def _told(self, tell: Callable) -> Callable:
        """A way to tell other ranks something, for those who know no cluster."""
        cluster = self.run.plan.cluster
        return lambda text: tell(text, cluster.device_type, cluster.size)

    def train(self) -> None:
        """The steps of the run, from where it is to its end or to where all ranks have agreed to stop."""
        while self.position.step < self.run.total_steps:
            number = self.position.step + 1
            if not self.run.link.begin_step(number):
                self._stop()
                break
            if self._step(number):
                self._after_step(number)

    def _stop(self) -> None:
        """Leave before the last step, with a checkpoint.

        That this is the place is known only now: while the step before ended, some ranks may not have heard of it yet.
        """
        run, step = self.run, self.position.step
        if self.saver is not None:
            if step != self.saved_step:
                self._check()
                self.save()
            self.saver.finish()
            self._report_saved(True)
        run.say(
            f"stopped after step {step} of {run.total_steps}, as asked"
            + ("; go on with --resume" if self.saver else "")
        )

    def _step(self, number: int) -> bool:
        """Make step ``number``; false if it was taken back."""
        skips = self.run.config.on_nan == "skip"
        if skips:
            self.state.backup()
        outputs = self.graph(*self.feed.inputs(self.position.data_step))
        self.watch.note(number, self.position.data_step, outputs, self.graph.norm_record[0].total.clone())
        self.position.data_step += 1
        damage = self.watch.look() if skips else None
        if damage is not None:
            self._take_back(damage)
            return False
        self.updates.after_step(number)
        self.position.step = self.run.done_steps = number
        return True

    def _take_back(self, damage) -> None:
        self.state.restore()
        self.position.skipped += 1
        if self.position.skipped > self.run.config.nan_limit:
            self._end_saving()
            raise RunError(
                f"{damage}: {self.position.skipped} batches were left out, more than --nan_limit {self.run.config.nan_limit}"
            )
        self.run.say(f"left out: {damage} ({self.position.skipped} of at most {self.run.config.nan_limit})")

    def _after_step(self, number: int) -> None:
        run, config = self.run, self.run.config
        last, first = number == run.total_steps, number == run.start_step + 1
        metrics = None
        saves = self.saver is not None and (last or bool(config.save_every and number % config.save_every == 0))
        logs = first or number % config.log_every == 0 or number == run.total_steps
        evaluates = self.evaluator is not None and (last or bool(config.eval_every and number % config.eval_every == 0))
        if logs or saves or evaluates:
            self._check()
        if logs:
            metrics = self.metrics = self.meter.measure(
                number, self.watch.losses, self.schedule.at(number - 1), self._mean_norm(number)
            )
        if first:
            run.say(f"first step {time.time() - run.started:.1f} s after the start")
        self.hook.pipeloom_on_step_end(run=run, step=number, metrics=metrics)
        if evaluates:
            saves = self.evaluate(number) or saves
        if saves:
            self.save()
        if self.saver is not None:
            if last:
                self.saver.finish()
            self._report_saved(last)

    def evaluate(self, number: int) -> bool:
        """Evaluate after step ``number``, which has been looked at; whether to keep it as the best so far."""
        started = time.perf_counter()
        self.run.link.busy("evaluating", EVALUATION_SECONDS)
        self.evaluation, self.evaluated_step = self.evaluator.evaluate(number), number
        check_evaluation(number, self.evaluation)
        self.hook.pipeloom_on_evaluate(run=self.run, step=number, metrics=self.evaluation)
        self.meter.leave_out(time.perf_counter() - started)
        return self.saver is not None and self.saver.is_best(self.evaluation)

    def _check(self) -> None:
        try:
            self.watch.check()
        except RunError:
            self._end_saving()
            raise

    def _end_saving(self) -> None:
        """A checkpoint under way is of a step before the fault: it shall be whole."""
        if self.saver is not None:
            self.saver.finish()
            self._report_saved(False)

    def _mean_norm(self, number: int) -> float:
        """Mean of the gradient norms since the last log line, which begins the next sum."""
        mean = self.watch.norm_sum / (number - self.position.norm_since)
        self.state.set_norm_sum(0.0)
        self.watch.norm_sum, self.position.norm_since = 0.0, number
        return mean

    def save(self) -> None:
        """Begin a checkpoint of this moment. Only after ``_check``: it must not hold damage."""
        self.run.link.busy("saving a checkpoint", SAVE_SECONDS)
        self.saved_step = self.position.step
        evaluation = self.evaluation if self.evaluated_step == self.position.step else {}
        self.saver.save(
            manifest_of(
                self.run, self.position, self.watch.norm_sum, self.state.optimizer_class, self.metrics, evaluation
            )
        )

    def _report_saved(self, last: bool) -> None:
        saved = self.saver.poll()
        while saved is not None:
            if saved.error is None:
                self.run.say(f"saved      {saved.path.name} ({saved.bytes / 1e6:.1f} MB in {saved.seconds:.1f} s)")
                self.hook.pipeloom_on_checkpoint(run=self.run, step=saved.step, path=saved.path)
            elif last and saved.step == self.position.step:
                raise RunError(
                    f"the checkpoint of step {saved.step} could not be saved ({saved.error}), and the run is over"
                )
            else:
                self.run.say(
                    f"NOT SAVED  step {saved.step}: {saved.error}; training goes on, the next checkpoint is tried as planned"
                )
            saved = self.saver.poll()

    def save_final_weights(self) -> None:
        """Write every parameter, by name, into the run directory; whole or not at all."""
        self.run.link.busy("writing the final weights", SAVE_SECONDS)
        kinds = {name: (np.dtype(np.float32), spec.shape) for name, (spec, _) in self.parameters.items()}
        # One after the other, all ranks take part; without what fills it up.
        weights = (self.read(tensor)[tuple(map(slice, spec.shape))] for spec, tensor in self.parameters.values())
        if self.run.is_main:
            replace_file(self.run.directory / FINAL_WEIGHTS, tensors.streamed(kinds, weights))
        else:
            collections.deque(weights, maxlen=0)

    def read(self, tensor):
        """A tensor as numpy, on every rank; waits for the devices."""
        return tensor.to_global(placement=self.everywhere, sbp=flow.sbp.broadcast).to_local().numpy()

    def collect(self, tensor):
        """A tensor as numpy on the main rank, and ``None`` on the others; every rank calls it."""
        there = tensor.to_global(placement=flow.placement(self.everywhere.type, [0]), sbp=flow.sbp.broadcast)
        return there.to_local().numpy() if self.run.is_main else None


def _from_here(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except OSError:  # the folder in which the command was given has been removed
        return str(path)


def train_in_rank(plan: Plan, plugins, directory: Path, rank: int, checkpoint: Optional[Checkpoint] = None) -> int:
    """A rank's whole life: build, train, close. Returns 0; errors pass through to ``run_rank``."""
    run = Run(settle(plan), plugins, directory, rank)
    run.open()
    error: Optional[BaseException] = None
    trainer: Optional[Trainer] = None
    try:
        run.say(f"run        {_from_here(directory)}")
        run.say(plan.describe())
        for line in starting_point(plan.model) if checkpoint is None else [f"weights    all from {checkpoint.path}"]:
            run.say(line)
        trainer = Trainer(run, checkpoint)
        plugins.hook.pipeloom_on_run_start(run=run)
        run.say("compiling the graph ...")
        trainer.train()
        if run.config.save_final_weights:
            trainer.save_final_weights()
    except BaseException as raised:
        error = raised
        if isinstance(raised, Exception) and trainer is not None and trainer.saver is not None:
            trainer.saver.wait(LAST_SAVE_SECONDS)  # it is of a step before the fault
        raise
    finally:
        try:
            plugins.hook.pipeloom_on_run_end(run=run, error=error)
        except PipeloomError as second:
            if error is None:
                raise
            run.say(f"and at the end of the run: {second}")  # what ended it is the error to be told
        finally:
            run.close()
    return 0
