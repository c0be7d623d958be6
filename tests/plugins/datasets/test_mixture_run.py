"""Training on a mixture: law 1 holds, across a change of layout in the middle of the run too. Tolerance 1e-4, the
law's.
"""

from __future__ import annotations

import numpy as np
import pytest
from jobs import ONE_PROCESS, TINY, largest_difference, metrics, train

from pipeloom.plugins.datasets.wiki_ofrecord import _fields, sample
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import write_part

TWO_RANKS = ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two folders with 48 and 16 samples of the embedded set, each with its vocabulary."""
    folder = tmp_path_factory.mktemp("sources")
    path = sample.ensure_sample(64, 10)
    whole = OFRecordDataset(path, _fields(64, 10, 4096), task="pretraining", vocab_size=4096)
    for name, indices in (("a", range(48)), ("b", range(100, 116))):
        (folder / name).mkdir()
        values = whole.read(indices, list(whole.fields))
        write_part(
            folder / name / "part-0",
            [{field: value[row] for field, value in values.items()} for row in range(len(indices))],
        )
        (folder / name / "vocab.txt").write_bytes((path / "vocab.txt").read_bytes())
    return folder


def test_one_process_and_two_ranks_train_on_the_same_mixture(sources, tmp_path):
    flags = [
        "--ofrecord_path",
        f"{sources / 'a'}:0.6,{sources / 'b'}:0.4",
        "--seq_length",
        "64",
        "--max_predictions",
        "10",
        "--train_steps",
        "8",
    ]
    one = train(tmp_path / "one", *TINY, *flags, *ONE_PROCESS, "--grad_acc_steps", "1")
    assert "a mixture of 60 % from 48 samples in 1 part of" in (tmp_path / "one" / "train.log").read_text()
    train(tmp_path / "two", *TINY, *flags, *TWO_RANKS, "--stop_at", "4")
    train(tmp_path / "two", "--resume", str(tmp_path / "two"), *ONE_PROCESS)
    two = metrics(tmp_path / "two")
    assert [entry["step"] for entry in two] == list(range(1, 9)) and np.isfinite([entry["loss"] for entry in two]).all()
    assert largest_difference(one, two) <= 1e-4
