"""What a logged step says, and what ends a run."""
from __future__ import annotations

import numpy as np
import pytest

from pipeloom.core.errors import RunError
from pipeloom.core.metrics import StepMeter, check_evaluation

pytestmark = pytest.mark.fast


def meter():
    return StepMeter(("mlm_loss", "nsp_loss", "accuracy"), {"mlm_loss": 1.0, "nsp_loss": 0.5}, samples_per_step=16, seq_length=8, total_steps=10)


def test_outputs_are_summed_over_micro_batches_and_norms_averaged_over_steps():
    measured = meter()
    first = measured.measure(1, np.array([1.0, 2.0, 3.0, 0.5, 0.25, 1.0]), lr=0.1, norms=4.0)
    assert (first["mlm_loss"], first["nsp_loss"], first["accuracy"], first["loss"]) == (1.5, 2.25, 4.0, 1.5 + 1.125)
    assert first["grad_norm"] == 4.0 and first["lr"] == 0.1
    # The first step compiles: no rate is taken of it.
    assert first["samples_per_second"] == first["tokens_per_second"] == 0
    later = measured.measure(5, np.zeros(3), lr=0.1, norms=6.0)
    assert later["grad_norm"] == 1.5
    assert later["tokens_per_second"] == pytest.approx(8 * later["samples_per_second"]) and later["samples_per_second"] > 0
    assert later["eta_seconds"] == pytest.approx(5 * 16 / later["samples_per_second"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_ends_the_run_in_one_line(value):
    with pytest.raises(RunError, match=r"^the loss is (nan|inf) at step 3 .*: try a lower --learning_rate"):
        meter().measure(3, np.array([value, 0, 0]), lr=0.1, norms=1.0)
    with pytest.raises(RunError, match="^a gradient up to step 3 is not a finite number: try a lower --learning_rate"):
        meter().measure(3, np.zeros(3), lr=0.1, norms=value)


def test_what_was_no_training_is_left_out_of_the_rates(monkeypatch):
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("pipeloom.core.metrics.time.perf_counter", lambda: next(clock))
    measured = meter()
    measured.leave_out(3.0)    # before the first step there is nothing to leave it out of
    measured.measure(1, np.zeros(3), lr=0.1, norms=1.0)
    measured.leave_out(6.0)
    assert measured.measure(3, np.zeros(3), lr=0.1, norms=1.0)["samples_per_second"] == pytest.approx(2 * 16 / 4.0)
    assert measured.measure(4, np.zeros(3), lr=0.1, norms=1.0)["samples_per_second"] == pytest.approx(16 / 10.0)


def test_an_evaluation_that_is_not_finite_ends_the_run_in_one_line():
    check_evaluation(20, {"loss": 1.5, "mlm_loss": 1.5, "mlm_accuracy": 0.1})
    with pytest.raises(RunError, match=r"^the loss on the held-out set is nan after step 20 \(mlm_loss nan, mlm_accuracy 0.1\): try a lower"):
        check_evaluation(20, {"loss": float("nan"), "mlm_loss": float("nan"), "mlm_accuracy": 0.1})
