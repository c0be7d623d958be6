"""Any dataset is held to what it declares."""

from __future__ import annotations

import numpy as np
import pytest
from small_datasets import Numbers

from pipeloom.core.base.errors import RunError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.dataset import Field
from pipeloom.core.data.checking import CheckedDataset
from pipeloom.core.planning.planner import make_plan

pytestmark = pytest.mark.fast

FIELDS = {
    "ids": Field("ids", (2,), "int32", low=0, high=9),
    "weights": Field("weights", (), "float32"),
    "odd": Field("odd", (1,), "int32", low=1),
}
GOOD = {
    "ids": np.int32([[0, 8], [3, 4], [5, 6]]),
    "weights": np.float32([0, 1, 2]),
    "odd": np.int32([[1], [3], [5]]),
}


class Third(Numbers):
    """A dataset that declares ``FIELDS`` and gives arrays as they are."""

    def __init__(self, **changes):
        super().__init__(**{**GOOD, **changes})
        self.fields, self.answer = FIELDS, None

    def read(self, indices, names):
        return super().read(indices, names) if self.answer is None else self.answer


def test_what_is_as_declared_passes_as_it_is():
    checked = CheckedDataset(Third())
    values = checked.read([2, 0], ["weights", "ids"])
    assert list(values) == ["weights", "ids"] and values["ids"].tolist() == [[5, 6], [0, 8]]
    assert checked.read([], ["ids"])["ids"].shape == (0, 2) and len(checked) == 3


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"ids": np.int32([[0, 8], [3, 9], [5, 6]])}, "sample 1: field 'ids' is 9 at 1, it must be 0 to 8"),
        ({"ids": np.int32([[0, 8], [3, 4], [-1, 6]])}, "sample 2: field 'ids' is -1 at 0, it must be 0 to 8"),
        ({"odd": np.int32([[1], [0], [1]])}, "sample 1: field 'odd' is 0 at 0, it must be at least 1"),
        ({"weights": np.float32([0, np.nan, 1])}, "sample 1: field 'weights' is nan, it must be a finite number"),
        ({"weights": np.float32([np.inf, 0, 1])}, "sample 0: field 'weights' is inf, it must be a finite number"),
        ({"weights": np.float64([0, 1, 2])}, "field 'weights' of 3 samples is float64 (3,), declared is float32 (3,)"),
        ({"ids": np.zeros((3, 3), np.int32)}, "field 'ids' of 3 samples is int32 (3, 3), declared is int32 (3, 2)"),
    ],
)
def test_what_is_not_is_one_line(changes, says):
    with pytest.raises(RunError) as error:
        CheckedDataset(Third(**changes)).read([0, 1, 2], list(GOOD))
    assert str(error.value) == f"the dataset (numbers): {says}"


@pytest.mark.parametrize(
    "answer, says",
    [
        ([1, 2], "reading gives list, not arrays by the names of fields"),
        ({"ids": GOOD["ids"]}, "reading gives no field 'weights'"),
        ({**GOOD, "ids": [[1, 2]] * 3}, "field 'ids' of 3 samples is list, declared is int32 (3, 2)"),
        ({**GOOD, "ids": GOOD["ids"][:2]}, "field 'ids' of 3 samples is int32 (2, 2), declared is int32 (3, 2)"),
    ],
)
def test_an_answer_of_another_kind_is_one_line(answer, says):
    data = Third()
    data.answer = answer
    with pytest.raises(RunError) as error:
        CheckedDataset(data).read([0, 1, 2], list(GOOD))
    assert str(error.value) == f"the dataset (numbers): {says}"


def test_training_and_evaluation_read_through_it():
    plan = make_plan(*parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--eval_every", "10"])[:2])
    assert isinstance(plan.dataset, CheckedDataset) and isinstance(plan.evaluation, CheckedDataset)
