"""What a logged step says."""

from __future__ import annotations

import pytest

from pipeloom.core.base.errors import RunError
from pipeloom.core.training.metrics import StepMeter, check_evaluation

pytestmark = pytest.mark.fast


def test_a_line_has_losses_rate_and_throughput():
    measured = StepMeter(samples_per_step=16, seq_length=8, total_steps=10)
    first = measured.measure(1, {"loss": 2.0, "mlm_loss": 1.5}, lr=0.1, grad_norm=4.0)
    assert (first["loss"], first["mlm_loss"], first["lr"], first["grad_norm"]) == (2.0, 1.5, 0.1, 4.0)
    # The first step compiles: no rate is taken of it.
    assert first["samples_per_second"] == first["tokens_per_second"] == 0
    later = measured.measure(5, {"loss": 1.0}, lr=0.1, grad_norm=1.5)
    assert (
        later["tokens_per_second"] == pytest.approx(8 * later["samples_per_second"]) and later["samples_per_second"] > 0
    )
    assert later["eta_seconds"] == pytest.approx(5 * 16 / later["samples_per_second"])


def test_what_was_no_training_is_left_out_of_the_rates(monkeypatch):
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("pipeloom.core.training.metrics.time.perf_counter", lambda: next(clock))
    measured = StepMeter(samples_per_step=16, seq_length=8, total_steps=10)
    measured.leave_out(3.0)  # before the first step there is nothing to leave it out of
    measured.measure(1, {}, lr=0.1, grad_norm=1.0)
    measured.leave_out(6.0)
    assert measured.measure(3, {}, lr=0.1, grad_norm=1.0)["samples_per_second"] == pytest.approx(2 * 16 / 4.0)
    assert measured.measure(4, {}, lr=0.1, grad_norm=1.0)["samples_per_second"] == pytest.approx(16 / 10.0)


def test_an_evaluation_that_is_not_finite_ends_the_run_in_one_line():
    check_evaluation(20, {"loss": 1.5, "mlm_loss": 1.5, "mlm_accuracy": 0.1})
    check_evaluation(20, {"f1": 50.0})  # of samples without labels
    with pytest.raises(
        RunError,
        match=r"^the loss on the held-out set is nan after step 20 \(mlm_loss nan, mlm_accuracy 0.1\): try a lower",
    ):
        check_evaluation(20, {"loss": float("nan"), "mlm_loss": float("nan"), "mlm_accuracy": 0.1})
