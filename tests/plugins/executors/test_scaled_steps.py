"""The dynamic loss scale of the engine: what overflows changes nothing but the scale, in one process and in several.

Nothing here is half precision: a scale so large that gradients leave float32 overflows on a CPU just so.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from small_datasets import Points
from test_executor import regression

from pipeloom.core.contract.executor import ProgramSpec, StepSettings
from pipeloom.core.contract.loss_scale import LossScaleRule
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.schedule import LRSchedule
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.data.order import SampleOrder

SETTINGS = {"seed": 11, "learning_rate": 0.05, "momentum": 0.0, "weight_decay": 0.1, "shard": "none"}
ADAM = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-6}
STEPS = 18


def prepare(optimizer, settings, half_precision=False):
    from pipeloom.core.checkpoint.initialization import initial_value
    from pipeloom.plugins.executors.oneflow import OneFlow
    from pipeloom.plugins.optimizers.defaults import pipeloom_build_optimizer

    config, model, data = SimpleNamespace(**SETTINGS, **ADAM, optimizer=optimizer), regression(), Points(50)
    placement = Placement.of(Cluster(1, 1), [[0]])
    program = OneFlow().build(
        ProgramSpec(
            model,
            (1,),
            placement,
            Mesh(1, 1),
            data.fields,
            0,
            lambda spec: initial_value(spec, config.seed),
            half_precision=half_precision,
        )
    )
    training = program.train(
        settings,
        pipeloom_build_optimizer(config, list(model.parameters)),
        LRSchedule(config.learning_rate, "linear", 0, STEPS, power=2.0, final_rate=0.01),
        TrainingBatches(data, SampleOrder(len(data), 8, seed=2, shuffle=True), model.normalize, config.seed),
    )
    return program, training


def weights(program):
    return [value.copy() for value in program.weights()]


@pytest.mark.parametrize(
    "optimizer, micro_batches, max_norm", [("adamw", 2, 1.0), ("sgd", 4, 0.0), ("lamb", 1, 0.5), ("adamw", 1, 0.0)]
)
def test_steps_that_overflow_change_nothing(optimizer, micro_batches, max_norm):
    """Nothing moves while they overflow; then all is as if their batches had never been, bit for bit; by the rule."""
    rule = LossScaleRule(2.0**63, 3)
    program, training = prepare(optimizer, StepSettings(micro_batches, (), max_norm, 1.0, rule))
    state, number, first, kept, norms, left_out = training.state.loss_scale(), 0, weights(program), [], [], []
    assert state == rule.first()
    for step in range(STEPS):
        losses, norm_sum = training.read(training.step(step))
        now = training.state.loss_scale()
        finite = not state.fell_to(now)
        assert now == rule.after(state, finite) and np.isfinite(losses).all() and np.isfinite(norm_sum)
        state = now
        if finite:
            number += 1
            training.finish_step(number)
            kept.append((step, losses))
            norms.append(norm_sum)
        else:
            left_out.append(step)
            if not number:
                for before, value in zip(first, weights(program)):
                    np.testing.assert_array_equal(before, value)
    # Some at the beginning, and one after it had grown.
    assert len(kept) > 3 and left_out[0] == 0 and left_out[-1] > kept[0][0]
    plain, reference = prepare(optimizer, StepSettings(micro_batches, (), max_norm))
    for number, (step, losses) in enumerate(kept):
        expected, norm_sum = reference.read(reference.step(step))
        reference.finish_step(number + 1)
        np.testing.assert_array_equal(losses, expected)
        assert norm_sum == pytest.approx(norms[number], rel=1e-6)
    for value, expected in zip(weights(program), weights(plain)):
        np.testing.assert_array_equal(value, expected)


def test_a_scale_that_is_loaded_goes_on_to_the_bit():
    rule = LossScaleRule(2.0**63 * 0.9, 3)
    settings = StepSettings(loss_scale=1.0, dynamic_scale=rule)
    _, whole = prepare("sgd", settings)
    seen = []
    for step in range(9):
        whole.read(whole.step(step))
        seen.append(whole.state.loss_scale())
    program, again = prepare("sgd", settings)
    names = {spec.name: value for spec, value in zip(program.parameters, weights(program))}
    again.state.load_optimizer([], 4, lambda kind, spec: names[spec.name])
    again.state.set_loss_scale(seen[3])
    assert again.state.loss_scale() == seen[3]
    # From the first weights, not from those that the others have come to: the scale alone is looked at.
    before = seen[3]
    for step in range(4, 9):
        again.read(again.step(step))
        now = again.state.loss_scale()
        assert now == rule.after(before, not before.fell_to(now)) and now != rule.first()
        before = now


def test_a_step_taken_back_takes_back_the_scale():
    """Also the very first, in which the engine makes it."""
    rule = LossScaleRule(8.0, 2)
    _, training = prepare("adamw", StepSettings(loss_scale=1.0, dynamic_scale=rule))
    seen = []
    for step in range(3):
        training.state.backup()
        training.read(training.step(step))
        training.state.restore()
        seen.append(training.state.loss_scale())
        training.read(training.step(step))
        training.finish_step(step + 1)
    state = rule.first()
    for found in seen:
        assert found == state
        state = rule.after(state, True)
    assert training.state.loss_scale() == state


class Counting:
    """``flow._C``, with what is asked of it."""

    def __init__(self, real):
        self._real, self.asked = real, []

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self._real, name)


def test_mixed_precision_keeps_what_is_computed_of_gradients_in_float32(monkeypatch):
    """On a CPU the engine casts nothing, and takes its marks out: seen is that they are made, and change no bit."""
    import oneflow as flow

    found = []
    for half_precision in (False, True):
        counting = Counting(flow._C)
        settings = StepSettings(2, (), 1.0, 1.0, LossScaleRule(2.0**63, 3))
        program, training = prepare("adamw", settings, half_precision)
        with monkeypatch.context() as patched:
            patched.setattr(flow, "_C", counting)
            training.read(training.step(0))
        for step in range(1, 6):
            training.read(training.step(step))
        # Of each of the two parameters, and of what measures the scale.
        assert counting.asked.count("amp_black_identity") == (3 if half_precision else 0)
        found.append(weights(program))
    for plain, half in zip(*found):
        np.testing.assert_array_equal(plain, half)
