"""What a logged step says."""
from __future__ import annotations

import pytest

from pipeloom.core.metrics import StepMeter

pytestmark = pytest.mark.fast


def test_a_line_has_losses_rate_and_throughput():
    measured = StepMeter(samples_per_step=16, seq_length=8, total_steps=10)
    first = measured.measure(1, {"loss": 2.0, "mlm_loss": 1.5}, lr=0.1, grad_norm=4.0)
    assert (first["loss"], first["mlm_loss"], first["lr"], first["grad_norm"]) == (2.0, 1.5, 0.1, 4.0)
    # The first step compiles: no rate is taken of it.
    assert first["samples_per_second"] == first["tokens_per_second"] == 0
    later = measured.measure(5, {"loss": 1.0}, lr=0.1, grad_norm=1.5)
    assert later["tokens_per_second"] == pytest.approx(8 * later["samples_per_second"]) and later["samples_per_second"] > 0
    assert later["eta_seconds"] == pytest.approx(5 * 16 / later["samples_per_second"])
