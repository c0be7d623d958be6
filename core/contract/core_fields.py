"""The fields that the core itself adds to those of the dataset."""

from __future__ import annotations

from typing import Dict, Mapping

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.core.contract.dataset import Field

CORE_FIELDS = {
    DROPOUT_SEEDS: Field(DROPOUT_SEEDS, (2,), "int32"),
    SAMPLE_WEIGHT: Field(SAMPLE_WEIGHT, (1,), "float32"),
}


def known_fields(dataset_fields: Mapping[str, Field]) -> Dict[str, Field]:
    """The dataset's fields and those that the core provides."""
    return {**dataset_fields, **CORE_FIELDS}
