"""Nothing rests on a loss that nobody has looked at; what is not finite is told with its step and records."""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.core.base.errors import RunError
from pipeloom.core.training.watch import LossWatch

pytestmark = pytest.mark.fast


def watch():
    return LossWatch(
        ("mlm_loss", "nsp_loss"),
        {"mlm_loss": 1.0, "nsp_loss": 0.5},
        read=lambda handle: (np.array(handle[0]), handle[1]),
        records=lambda data_step: np.arange(4 * data_step, 4 * data_step + 4),
    )


def test_the_last_losses_are_kept():
    seen = watch()
    seen.note(1, 0, ([1.5, 2.25], 4.0))
    seen.note(2, 1, ([2.0, 4.0], 6.0))
    assert seen.look() is None
    assert seen.losses == {"loss": 4.0, "mlm_loss": 2.0, "nsp_loss": 4.0} and seen.norm_sum == 6.0
    assert seen.look() is None and seen.losses["loss"] == 4.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_damaged_step_is_named_with_its_records(value):
    seen = watch()
    seen.note(7, 8, ([1.0, 1.0], 1.0))
    seen.note(8, 9, ([value, 1.0], 1.0))
    seen.note(9, 10, ([value, value], value))
    with pytest.raises(
        RunError,
        match=r"^the loss is (nan|inf) \(mlm_loss (nan|inf), nsp_loss 1\) at step 8, with the records 36, 37, 38, 39: "
        r"try",
    ):
        seen.check()
    seen.note(10, 11, ([1.0, 1.0], value))  # the loss of a step is that before its update
    damage = seen.look()
    assert (damage.step, damage.what, damage.records) == (10, "a gradient is not finite", [44, 45, 46, 47])


def test_many_records_are_cut():
    seen = LossWatch(
        ("loss",), {"loss": 1.0}, lambda handle: (np.array(handle[0]), handle[1]), lambda data_step: np.arange(100)
    )
    seen.note(1, 0, ([float("nan")], 0.0))
    assert str(seen.look()).endswith("62, 63 and 36 more")
