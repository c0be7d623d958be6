"""Held-out samples before the engine starts: what is evaluated on, what each misfit costs, what loggers say of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import describe_plan
from pipeloom.plugins.libraries.ofrecord.records import write_part
from pipeloom.plugins.loggers import console, jsonl, tensorboard

METRICS = {"loss": 8.25, "mlm_loss": 7.5, "nsp_loss": 0.75, "mlm_accuracy": 0.125, "nsp_accuracy": 0.5}


def plan(*flags, plugins="inter_first,bert,wiki_ofrecord"):
    return make_plan(*parse(["--plugins", plugins, *map(str, flags)]))


def refused(*flags, **more):
    with pytest.raises(UsageError) as raised:
        plan(*flags, **more)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def records(folder, name, count, seq_length=128, word=7):
    shapes = {
        "input_ids": seq_length,
        "input_mask": seq_length,
        "segment_ids": seq_length,
        "masked_lm_positions": 20,
        "masked_lm_ids": 20,
        "next_sentence_labels": 1,
    }
    sample = {name: np.zeros(size, np.int32) for name, size in shapes.items()}
    sample["input_ids"][:] = word
    write_part(folder / name, [{**sample, "masked_lm_weights": np.ones(20, np.float32)}] * count)
    return folder / name


def test_nothing_is_held_out_unless_asked_for():
    assert plan().evaluation is None and "evaluation" not in describe_plan(plan())


def test_records_of_their_own(tmp_path):
    path = records(tmp_path, "held", 5)
    made = plan("--eval_every", 10, "--eval_path", path)
    assert len(made.evaluation) == 5 and len(made.dataset) > 100
    assert f"evaluation 5 samples in 1 part of {path}; every 10 steps" in describe_plan(made).splitlines()
    alone = plan("--eval_path", path)
    assert len(alone.evaluation) == 5 and alone.goal.measured
    assert f"evaluation 5 samples in 1 part of {path}; after the last step" in describe_plan(alone).splitlines()
    first = plan("--eval_every", 10, "--eval_path", path, "--eval_samples", 3)
    assert len(first.evaluation) == 3 and (f"evaluation the first 3 of 5 samples in 1 part of {path}") in describe_plan(
        first
    )


def test_the_embedded_sample_trains_on_the_same_with_evaluation_and_without():
    with_it, without = plan("--eval_every", 10), plan()
    prints = [dataset.fingerprint() for dataset in (with_it.dataset, without.dataset, with_it.evaluation)]
    assert prints[0] == prints[1] != prints[2] and len(with_it.dataset) == len(without.dataset)


def test_what_does_not_fit(tmp_path):
    path = records(tmp_path, "held", 5)
    evaluate = ("--eval_every", 10, "--eval_path")
    assert refused("--eval_every", 0) == "--eval_every: 'eval_every' must be at least 1, not 0"
    assert refused("--eval_samples", 3) == (
        "--eval_samples 3 has no effect without an evaluation: give --eval_every, the steps between two of "
        "them, or the held-out samples"
    )
    assert refused(*evaluate, path, "--eval_samples", 6) == (
        f"--eval_samples 6 is more than there are to evaluate on: 5 samples in 1 part of {path}"
    )
    assert refused(*evaluate, tmp_path / "heid") == f"no file or folder {tmp_path / 'heid'} (did you mean 'held'?)"
    assert refused("--eval_every", 10, "--best_metric", "mlm_acuracy").endswith(
        "mlm_accuracy, nsp_accuracy (did you mean 'mlm_accuracy'?)"
    )
    longer, foreign = records(tmp_path, "longer", 1, seq_length=256), records(tmp_path, "foreign", 1, word=5000)
    assert (
        refused(*evaluate, longer) == f"{longer} record 0: field 'input_ids' has 256 values, --seq_length 128 needs 128"
    )
    assert refused(*evaluate, foreign).startswith(
        f"{foreign} record 0: field 'input_ids' has the value 5000 at position 0"
    )


@pytest.mark.parametrize(
    "answer, says",
    [
        (
            "None",
            "--eval_every 10: the dataset has no held-out samples to evaluate on; leave it out, or use a dataset that "
            "has some",
        ),
        ("Numbers(0)", "the held-out set (0 numbers) has no samples: give one that has some, or leave it out"),
        (
            "Numbers(task='answers')",
            "the held-out set (4 numbers) has the task answers, the training data pretraining: they must agree",
        ),
        (
            "Numbers(vocab_size=9)",
            "the held-out set (4 numbers) has the vocab_size 9, the training data 100: they must agree",
        ),
        (
            "Numbers(without='input_mask')",
            "the held-out set (4 numbers) has no field 'input_mask', which model 'bert' needs; it has: ",
        ),
        (
            "Numbers(length=256)",
            "the held-out set (4 numbers): field 'input_ids' is int32 (256,), in the training data int32 (128,): they "
            "must agree",
        ),
    ],
)
def test_what_another_dataset_may_answer(answer, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(f"""
import pipeloom
from pipeloom.core.contract.dataset import Dataset, Field

class Numbers(Dataset):
    def __init__(self, count=4, task="pretraining", vocab_size=100, without="", length=128):
        self.count, self.task, self.vocab_size = count, task, vocab_size
        sizes = dict(input_ids=length, input_mask=128, segment_ids=128, masked_lm_positions=20, masked_lm_ids=20)
        sizes["next_sentence_labels"] = 1
        self.fields = {{name: Field(name, (size,), "int32") for name, size in sizes.items() if name != without}}
        self.fields["masked_lm_weights"] = Field("masked_lm_weights", (20,), "float32")

    def __len__(self):
        return self.count

    def read(self, indices, names):
        raise NotImplementedError("nothing is read for a plan")

    def describe(self):
        return f"{{self.count}} numbers"

@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("max_predictions", int, 20, help="")

@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return Numbers() if split == "train" else {answer}
""")
    assert refused("--eval_every", 10, plugins="inter_first,bert,./mine.py").startswith(says)


# --- what the loggers make of it


@pytest.fixture
def run(tmp_path):
    said = []
    config = SimpleNamespace(to_flat_dict=dict, to_yaml=str, plugins=())
    return SimpleNamespace(
        is_main=True, start_step=0, directory=tmp_path, note=said.append, said=said, config=config, total_steps=200
    )


def test_the_console_has_a_line_for_it(run, capsys):
    console.pipeloom_on_evaluate(run=run, step=100, metrics=METRICS)
    line = "eval step 100 | loss 8.2500 | mlm_loss 7.5000 | nsp_loss 0.7500 | mlm_accuracy 0.1250 | nsp_accuracy 0.5000"
    assert capsys.readouterr().out == line + "\n" and run.said == [line]


def test_evaluation_jsonl(run):
    for step in (100, 200):
        jsonl.pipeloom_on_evaluate(run=run, step=step, metrics=METRICS)
    assert [json.loads(line) for line in (run.directory / "evaluation.jsonl").read_text().splitlines()] == [
        {"step": step, **METRICS} for step in (100, 200)
    ]


def test_tensorboard_has_curves_of_its_own(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard.pipeloom_on_run_start(run=run)
    tensorboard.pipeloom_on_step_end(run=run, step=100, metrics={"loss": 9.0})
    tensorboard.pipeloom_on_evaluate(run=run, step=100, metrics=METRICS)
    tensorboard.pipeloom_on_run_end(run=run, error=None)
    events = EventAccumulator(str(run.directory / "tb")).Reload()
    assert {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]} == {
        "loss": [(100, 9.0)],
        **{f"eval/{name}": [(100, value)] for name, value in METRICS.items()},
    }


def test_the_other_ranks_say_nothing(run, capsys):
    run.is_main = False
    for logger in (console, jsonl, tensorboard):
        logger.pipeloom_on_evaluate(run=run, step=100, metrics=METRICS)
    assert capsys.readouterr().out == "" and run.said == [] and list(run.directory.iterdir()) == []
