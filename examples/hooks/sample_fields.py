"""A field in every batch, which blocks name in their ``inputs``: a weight that rises over the first 100 batches."""

import numpy as np

import pipeloom
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.sample_fields import SampleField


def rising(seed, step, indices):
    return np.full((len(indices), 1), min(1.0, (step + 1) / 100), np.float32)


@pipeloom.hookimpl
def pipeloom_sample_fields(config):
    return [
        SampleField(Field("rising", (1,), "float32"), rising, lambda indices: np.ones((len(indices), 1), np.float32))
    ]
