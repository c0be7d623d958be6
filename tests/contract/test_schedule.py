"""The learning rate of each step, against the formula of transformers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.contract.schedule import LRSchedule

pytestmark = pytest.mark.fast


def linear_with_warmup(step, warmup, total):
    """``get_linear_schedule_with_warmup`` of transformers 4 (optimization.py), its ``lr_lambda``."""
    if step < warmup:
        return float(step) / float(max(1, warmup))
    return max(0.0, float(total - step) / float(max(1, total - warmup)))


def constant_with_warmup(step, warmup, total):
    """``get_constant_schedule_with_warmup`` of transformers 4."""
    return float(step) / float(max(1.0, warmup)) if step < warmup else 1.0


def polynomial_with_warmup(step, warmup, total, power=1.5, end=0.25):
    """``get_polynomial_decay_schedule_with_warmup`` of transformers 4, for a rate of 1."""
    if step < warmup:
        return float(step) / float(max(1, warmup))
    if step > total:
        return end
    return (1 - end) * (1 - (step - warmup) / max(1, total - warmup)) ** power + end


def cosine_with_warmup(step, warmup, total, end=0.25):
    """``get_cosine_with_min_lr_schedule_with_warmup`` of transformers 4."""
    if step < warmup:
        return float(step) / float(max(1, warmup))
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress)) * (1 - end) + end


FORMULAS = {
    "linear": linear_with_warmup,
    "constant": constant_with_warmup,
    "polynomial": polynomial_with_warmup,
    "cosine": cosine_with_warmup,
}
#: Whatever else the formulas above take for granted.
FURTHER = {"polynomial": {"power": 1.5, "final_rate": 0.25}, "cosine": {"final_rate": 0.25}}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(FORMULAS)), st.integers(1, 60), st.integers(0, 60), st.floats(0, 1, allow_subnormal=False)
)
def test_every_step_has_the_rate_of_the_formula(kind, total, warmup, rate):
    warmup = min(warmup, total)
    further = {name: value * rate if name == "final_rate" else value for name, value in FURTHER.get(kind, {}).items()}
    schedule = LRSchedule(rate, kind, warmup, total, **further)
    beyond = 3 if warmup < total else 0  # where nothing is left to decay, no run asks for the rate after its last step
    for step in range(total + beyond):
        assert schedule.at(step) == pytest.approx(rate * FORMULAS[kind](step, warmup, total), rel=1e-12, abs=1e-15)


def test_landmarks():
    schedule = LRSchedule(1e-3, "linear", 10, 110)
    assert [schedule.at(step) for step in (0, 5, 10, 60, 110, 500)] == pytest.approx([0.0, 5e-4, 1e-3, 5e-4, 0.0, 0.0])
    assert LRSchedule(1e-3, "linear", 0, 4).at(0) == 1e-3
    assert LRSchedule(1e-3, "constant", 2, 4).at(10**6) == 1e-3
    assert LRSchedule(1e-3, "linear", 4, 4).at(3) == pytest.approx(7.5e-4)  # warmup to the last step
