"""The rule of the dynamic loss scale, beside PyTorch's as its documentation has it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.config.core_options import add_core_options
from pipeloom.core.contract.loss_scale import LossScaleRule
from pipeloom.core.contract.options import Options

pytestmark = pytest.mark.fast


class GradScaler:
    """PyTorch's ``torch.cuda.amp.GradScaler``, by its documentation and the formula of ``update``.

    "If any optimizer steps were skipped the scale is multiplied by ``backoff_factor`` to reduce it. If
    ``growth_interval`` unskipped iterations occurred consecutively, the scale is multiplied by ``growth_factor`` to
    increase it."
    """

    def __init__(self, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
        self.scale, self.growth, self.backoff, self.interval = (
            init_scale,
            growth_factor,
            backoff_factor,
            growth_interval,
        )
        self.unskipped = 0

    def update(self, found_inf):
        if found_inf:
            self.scale, self.unskipped = self.scale * self.backoff, 0
            return
        self.unskipped += 1
        if self.unskipped == self.interval:
            self.scale, self.unskipped = self.scale * self.growth, 0


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_the_rule_is_that_of_grad_scaler(interval):
    reference, rule = GradScaler(growth_interval=interval), LossScaleRule(interval=interval)
    state = rule.first()
    for finite in np.random.default_rng(3).random(300) < 0.7:
        before, state = state, rule.after(state, bool(finite))
        reference.update(not finite)
        assert (state.scale, state.good_steps) == (reference.scale, reference.unskipped)
        assert before.fell_to(state) == (not finite)


def test_its_defaults_are_those_of_grad_scaler():
    reference, rule = GradScaler(), LossScaleRule()
    assert (rule.initial, rule.growth, 1 / rule.growth, rule.interval) == (
        reference.scale,
        reference.growth,
        reference.backoff,
        reference.interval,
    )


def test_the_option_is_a_number_or_the_word():
    options = Options()
    add_core_options(options)
    option = options.get("loss_scale")
    assert option.parse("dynamic", "x") == option.parse("Dynamic", "x") == "dynamic"
    assert option.parse("512", "x") == option.parse(512, "x") == 512.0 and option.parse("none", "x") is None
    for wrong in ("0.5", "inf", "nan", "moving", True, [1]):
        with pytest.raises(UsageError, match="'loss_scale' must be a number of at least 1, or 'dynamic'"):
            option.parse(wrong, "x")
