"""Law 1 on real records: the layout changes nothing. 20 steps, dropout 0.1, clipping active.

Tolerance 1e-4. Measured: 2e-5 between layouts with clipping, 2e-6 without; the clipping norm is summed in
float32 by the engine, stage by stage (docs/oneflow-notes.md).
"""
from __future__ import annotations

import math

import pytest

from jobs import ONE_PROCESS, TINY, largest_difference, train
from shared_data import shared

TOLERANCE = 1e-4
SGD = ["--optimizer", "sgd", "--learning_rate", "0.1"]


@pytest.fixture(scope="module")
def records():
    return ["--ofrecord_path", str(shared("wiki_ofrecord_seq_len_128")), "--train_steps", "20", *TINY]


@pytest.fixture(scope="module")
def one_process(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_process")
    return train(folder / "run", *records, *ONE_PROCESS, "--grad_acc_steps", "1")


def test_first_loss_is_that_of_a_uniform_guess(one_process):
    assert one_process[0]["loss"] == pytest.approx(math.log(30522) + math.log(2), abs=0.3)
    assert one_process[-1]["loss"] < one_process[0]["loss"] - 0.3


def test_two_stages_by_two_data_parallel_inter_first(one_process, records, tmp_path):
    curve = train(tmp_path / "run", *records, "--nums_split", "2", "--grad_acc_steps", "4")
    assert largest_difference(one_process, curve) <= TOLERANCE
    assert largest_difference(one_process, curve, "nsp_loss") <= TOLERANCE


def test_accumulation_alone(one_process, records, tmp_path):
    """Micro-batches with unequal numbers of masked tokens weigh as the whole batch does."""
    curve = train(tmp_path / "run", *records, *ONE_PROCESS, "--grad_acc_steps", "8")
    assert largest_difference(one_process, curve) <= 1e-5


def test_data_parallel_untied_and_sgd(records, tmp_path):
    """SGD shows a gradient that is off by a factor, which AdamW hides."""
    flags = [*records, *SGD, "--tie_embeddings", "false"]
    alone = train(tmp_path / "one", *flags, *ONE_PROCESS, "--grad_acc_steps", "1")
    curve = train(tmp_path / "two", *flags, "--nnodes", "2", "--nproc_per_node", "1", "--nums_split", "1", "--grad_acc_steps", "2")
    assert largest_difference(alone, curve) <= TOLERANCE


def test_intra_first_with_sgd_tied(records, tmp_path):
    flags = [*records, *SGD, "--clip_grad_norm", "0"]
    alone = train(tmp_path / "one", *flags, *ONE_PROCESS, "--grad_acc_steps", "1")
    curve = train(tmp_path / "two", *flags, "--nums_split", "2", "--grad_acc_steps", "2", strategy="intra_first")
    assert largest_difference(alone, curve) <= 1e-5
