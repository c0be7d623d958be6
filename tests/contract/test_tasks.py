"""Tasks: finding one, the head of question answering, fields that are derived, and held-out sets that have no
labels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hidden_states
import numpy as np
import pytest
from small_datasets import Numbers

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.derived import DerivedField, with_derived
from pipeloom.core.contract.tasks import find_task
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.planning.goal import Goal
from pipeloom.core.planning.held_out import choose_goal, open_held_out
from pipeloom.core.training.scoring import ScoredEvaluation, write_scores
from pipeloom.plugins.models.bert import pipeloom_build_model
from pipeloom.plugins.tasks import PRETRAINING, QUESTION_ANSWERING

pytestmark = pytest.mark.fast

LENGTH = 16


def load(*names):
    manager = PluginManager()
    manager.load(names)
    return manager


# --- finding a task


def test_a_task_is_found_by_its_name_whoever_adds_it():
    for selected, task in (((), PRETRAINING), (("bert",), QUESTION_ANSWERING)):
        # The same, but that its functions name their plugin where they fail.
        found = find_task(load(*selected), None, task.name)
        assert replace(found, head=task.head, derived=task.derived) == task
    assert find_task(load(hidden_states.__file__), None, "hidden_states").figures == ("largest",)


def test_a_task_that_nobody_adds_is_one_line():
    with pytest.raises(UsageError) as error:
        find_task(load(), None, "question_answring")
    assert str(error.value) == (
        "no selected plugin has the task 'question_answring', which the samples are for "
        "(did you mean 'question_answering'?); there are: pretraining, question_answering"
    )


def test_a_name_that_two_plugins_add_names_both(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import pipeloom\nfrom pipeloom.core.contract.tasks import Task\n@pipeloom.hookimpl\ndef pipeloom_tasks():\n"
        "    return [Task('pretraining', print)]\n"
    )
    with pytest.raises(
        UsageError, match="^plugins '.*' and '.*' both add the task 'pretraining': select only one of them$"
    ) as error:
        find_task(load(str(tmp_path / "mine.py")), None, "pretraining")
    assert "mine.py" in str(error.value) and "built_in_tasks" in str(error.value)


# --- the model for it


def config_of(*flags):
    return parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--seq_length", str(LENGTH), *flags])[0].replace(
        vocab_size=50
    )


def test_question_answering_is_bert_without_a_pooler_and_one_layer_of_two():
    """The parameters of transformers' BertForQuestionAnswering, 1 layer of hidden size 128: 50 words, 512 positions."""
    model = pipeloom_build_model(config=config_of("--num_hidden_layers", "1"), task=QUESTION_ANSWERING)
    other = pipeloom_build_model(config=config_of("--num_hidden_layers", "1"), task=PRETRAINING)
    names, others = ([spec.name for spec in one.parameters] for one in (model, other))
    assert [name for name in names if name not in others] == ["qa_outputs.weight", "qa_outputs.bias"]
    assert {name for name in others if name not in names} == {
        name for name in others if name.startswith("cls.") or "pooler" in name
    }
    assert model.size == (50 + 512 + 2 + 2) * 128 + 12 * 128**2 + 13 * 128 + 2 * 128 + 2
    assert [block.name for block in model.blocks] == ["embeddings", "layer.0", "answer_head"] and model.blocks[
        0
    ].borrow is None
    assert model.huggingface["architectures"] == ["BertForQuestionAnswering"] and model.task == "question_answering"
    assert model.losses == {"start_loss": 0.5, "end_loss": 0.5} and dict(model.scores) == {
        "start_logits": (LENGTH,),
        "end_logits": (LENGTH,),
    }


# --- derived fields


def test_a_derived_field_is_made_of_what_is_read():
    data = Numbers(a=np.int32([[1], [2], [3]]), b=np.int32([[5], [6], [7]]))
    derived = [
        DerivedField(Field("sum", (1,), "float32"), ("a", "b"), lambda a, b: a + b),
        DerivedField(Field("impossible", (1,), "float32"), ("absent",), None),
    ]
    more = with_derived(data, derived)
    assert list(more.fields) == ["a", "b", "sum"] and len(more) == 3 and more.describe() == "numbers"
    values = more.read([2, 0], ["sum", "b"])
    assert list(values) == ["sum", "b"] and values["sum"].tolist() == [[10], [6]] and values["sum"].dtype == np.float32
    assert data.asked == [("b", "a")] and values["b"].tolist() == [[7], [5]]
    assert with_derived(data, ()) is data


def test_positions_outside_of_the_input_weigh_nothing():
    data = Numbers(
        start_positions=np.int32([[0], [LENGTH - 1], [LENGTH]]), end_positions=np.int32([[LENGTH + 9], [0], [-1]])
    )
    values = with_derived(data, QUESTION_ANSWERING.derived(config_of())).read(
        [0, 1, 2], ["start_weights", "end_weights"]
    )
    # transformers clamps from below, and ignores what is above.
    assert values["start_weights"].tolist() == [[1], [1], [0]] and values["end_weights"].tolist() == [[0], [1], [1]]


# --- what is evaluated on


def questions(labelled, scored=("start_logits", "end_logits"), **more):
    tokens = {name: np.zeros((2, LENGTH), np.int32) for name in ("input_ids", "input_mask", "segment_ids")}
    labels = {name: np.zeros((2, 1), np.int32) for name in ("start_positions", "end_positions")} if labelled else {}
    data = Numbers(**tokens, **labels, **more)
    data.scored = scored
    return data


def held_out(data, *flags):
    config = config_of("--eval_every", "5", *flags)
    training = with_derived(questions(True), QUESTION_ANSWERING.derived(config))
    model = pipeloom_build_model(config=config, task=QUESTION_ANSWERING)
    plugins = SimpleNamespace(hook=SimpleNamespace(pipeloom_open_dataset=lambda config, split: data))
    opened = open_held_out(config, plugins, training, model, QUESTION_ANSWERING)
    return opened, choose_goal(config, QUESTION_ANSWERING, model, opened)


@pytest.mark.parametrize(
    "labelled, scored, flags, goal",
    [
        (True, True, [], Goal("f1", True)),
        (False, True, [], Goal("f1", True)),
        (True, False, [], Goal("loss")),
        (True, True, ["--best_metric", "loss"], Goal("loss")),
        (True, True, ["--best_metric", "end_loss"], Goal("end_loss")),
        (False, True, ["--best_metric", "exact_match"], Goal("exact_match", True)),
    ],
)
def test_the_best_is_what_the_task_or_the_user_says_as_far_as_it_is_measured(labelled, scored, flags, goal):
    data = questions(labelled)
    data.scored = data.scored if scored else ()
    assert held_out(data, *flags)[1] == goal


_GIVES = "an evaluation of 'bert' gives"


@pytest.mark.parametrize(
    "data, flags, says",
    [
        (
            questions(False, scored=()),
            [],
            "the held-out set (numbers) has no field 'end_positions', which model 'bert' needs; it has: input_ids",
        ),
        (questions(False), ["--best_metric", "loss"], f"--best_metric loss: {_GIVES} exact_match, f1"),
        (
            questions(True),
            ["--best_metric", "exact_macth"],
            f"--best_metric exact_macth: {_GIVES} loss, start_loss, end_loss, exact_match, f1 (did you mean "
            f"'exact_match'?)",
        ),
        (
            questions(True, scored=("start_logit",)),
            [],
            "the held-out set (numbers) is scored by the output 'start_logit', which model 'bert' does not have (did "
            "you mean 'start_logits'?)",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(data, flags, says):
    with pytest.raises(UsageError) as error:
        held_out(data, *flags)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_the_goal_turns_what_should_be_large():
    assert (
        Goal("f1", True).cost({"f1": 3.0}) == -3.0
        and Goal("loss").cost({"loss": 3.0}) == 3.0
        and Goal("f1", True).cost({"loss": 3.0}) is None
    )


# --- scores and their files


class Files:
    def __init__(self, content=None, error=None):
        self.content, self.error = content, error

    def finish(self, folder):
        if self.content is not None:
            (folder / "predictions.json").write_text(self.content)
        if self.error:
            raise self.error
        return {"f1": np.float32(50.0)}


def test_files_of_a_scorer_appear_at_once_and_replace_those_of_before(tmp_path):
    for content in ("old", "new"):
        assert write_scores(Files(content), tmp_path / "evaluations" / "step_0000005") == {"f1": 50.0}
        assert {path.name: path.read_text() for path in (tmp_path / "evaluations" / "step_0000005").iterdir()} == {
            "predictions.json": content
        }
    assert [path.name for path in (tmp_path / "evaluations").iterdir()] == ["step_0000005"]


@pytest.mark.parametrize("error", [RunError("full"), OSError(28, "No space left on device", "predictions.json")])
def test_a_scorer_that_fails_leaves_what_was_there(tmp_path, error):
    write_scores(Files("old"), tmp_path / "step_0000005")
    with pytest.raises(RunError):
        write_scores(Files("new", error), tmp_path / "step_0000005")
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000005"] and (
        tmp_path / "step_0000005" / "predictions.json"
    ).read_text() == "old"


def test_a_scorer_without_files_leaves_none(tmp_path):
    assert write_scores(Files(), tmp_path / "evaluations" / "step_0000005") == {"f1": 50.0}
    assert list((tmp_path / "evaluations").iterdir()) == []


def test_every_rank_has_the_figures_of_the_main_rank(tmp_path):
    data, said = questions(True), []

    class Scorer(Files):
        taken: list = []

        def add(self, indices, outputs):
            self.taken.append(indices)

    def evaluate(take):
        if take is not None:
            take([0, 1], {})
        return {"loss": 1.0}

    data.scorer = Scorer
    for is_main in (True, False):
        evaluation = ScoredEvaluation(
            SimpleNamespace(evaluate=evaluate),
            data,
            tmp_path,
            is_main,
            lambda text: said.append(text) or json.dumps({"f1": 50.0}),
        )
        assert evaluation.evaluate(7) == {"loss": 1.0, "f1": 50.0}
    assert Scorer.taken == [[0, 1]] and said == ['{"f1": 50.0}', "{}"]  # what the others say does not count
    data.scored = ()
    assert ScoredEvaluation(SimpleNamespace(evaluate=lambda: {"loss": 2.0}), data, tmp_path, True, None).evaluate(
        8
    ) == {"loss": 2.0}


def test_a_plugin_says_that_it_adds_tasks():
    from pipeloom.core.host.listing import describe_plugins

    line = next(line for line in describe_plugins().splitlines() if line.split()[:1] == ["built_in_tasks"])
    assert line.split()[1] == "tasks" and Path(hidden_states.__file__).exists()
