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
from found_tasks import PRETRAINING, QUESTION_ANSWERING
from small_datasets import Numbers

import pipeloom
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.blocks import Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.derived import DerivedField, with_derived
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.goal import Goal
from pipeloom.core.planning.held_out import choose_goal, open_held_out
from pipeloom.core.training.scoring import ScoredEvaluation, write_scores
from pipeloom.plugins import tasks
from pipeloom.plugins.models.bert import pipeloom_build_model

pytestmark = pytest.mark.fast

LENGTH = 16


def load(*names):
    manager = PluginManager()
    manager.load(names)
    return manager


# --- finding a task


def test_a_task_is_found_by_its_name_whoever_adds_it():
    for selected, task in (((), tasks.PRETRAINING), (("bert",), tasks.QUESTION_ANSWERING)):
        # The same, but that its functions name their plugin where they fail, and that it finds a head.
        found = find_task(load(*selected), None, task.name)
        assert replace(found, head=task.head, derived=task.derived) == task
    assert find_task(load(hidden_states.__file__), None, "hidden_states").figures == ("largest",)


def test_a_task_that_nobody_adds_is_one_line():
    with pytest.raises(UsageError) as error:
        find_task(load(), None, "question_answring")
    line, _, known = str(error.value).partition("; there are: ")
    assert line == (
        "no selected plugin has the task 'question_answring', which the samples are for "
        "(did you mean 'question_answering'?)"
    )
    assert {"pretraining", "masked_lm", "question_answering"} <= set(known.split(", "))


def test_a_selected_plugin_replaces_the_task_of_a_default_and_not_that_of_another(tmp_path):
    for name in ("mine", "other"):
        (tmp_path / f"{name}.py").write_text(
            "import pipeloom\nfrom pipeloom.core.contract.tasks import Task\n@pipeloom.hookimpl\n"
            f"def pipeloom_tasks():\n    return [Task('pretraining', print, figures=('{name}',))]\n"
        )
    mine, other = (str(tmp_path / f"{name}.py") for name in ("mine", "other"))
    assert find_task(load(mine), None, "pretraining").figures == ("mine",)
    with pytest.raises(UsageError) as error:
        find_task(load(mine, other), None, "pretraining")
    says = f"plugins '{mine}' and '{other}' both add the task 'pretraining': select only one of them"
    assert str(error.value) == says


# --- the head for a task and a family of models


def encoder(family):
    return Encoder(family, 8, 50, LENGTH, 1e-12, family, "word", True)


def head_named(name):
    block = Block(name, (), Cost(1.0, 1.0, 1.0), (), print)
    return lambda config, encoder: Head(block, {"loss": 1.0})


def with_heads(*offers):
    """A plugin that has a head for each ``(task, family)``."""
    heads = [HeadFor(task, model, head_named(f"{task} for {model}")) for task, model in offers]
    return SimpleNamespace(pipeloom_heads=pipeloom.hookimpl(lambda config: heads, specname="pipeloom_heads"))


def load_objects(selected):
    """The host with ``bert`` and objects as selected plugins, named ``p0``, ``p1``, ..."""
    manager = load("bert")
    for number, plugin in enumerate(selected):
        manager._register(plugin, f"p{number}")
        manager.versions[f"p{number}"] = "1"
    return manager


def head_of(manager, task, family):
    return find_task(manager, None, task).head(SimpleNamespace(max_predictions=4), encoder(family)).block.name


def test_the_head_is_chosen_by_the_task_and_the_family_of_the_model():
    """A family with layers of its own on the same samples, and one that has none and takes those for any model."""
    toy = load_objects([with_heads(("pretraining", "toy"), ("question_answering", "toy"))])
    assert head_of(toy, "pretraining", "toy") == "pretraining for toy"
    assert head_of(toy, "pretraining", "bert") == "pretraining_head"
    assert head_of(toy, "question_answering", "toy") == "question_answering for toy"
    assert head_of(toy, "question_answering", "bert") == head_of(toy, "question_answering", "any") == "answer_head"
    anyone = load_objects([with_heads(("pretraining", "*"))])
    assert head_of(anyone, "pretraining", "toy") == "pretraining for *"
    assert head_of(anyone, "pretraining", "bert") == "pretraining_head"


def test_a_head_for_a_model_without_one_is_one_line():
    with pytest.raises(UsageError) as error:
        head_of(load_objects([]), "pretraining", "berd")
    assert str(error.value) == (
        "no selected plugin has a head of the task 'pretraining' for models of the family 'berd' (did you mean "
        "'bert'?); there are heads for: bert"
    )


def test_two_equal_heads_name_both_plugins_and_a_selected_one_replaces_a_default():
    with pytest.raises(UsageError) as error:
        head_of(load_objects([with_heads(("pretraining", "bert"))]), "pretraining", "bert")
    assert str(error.value) == (
        "plugins 'bert' and 'p0' both add a head of the task 'pretraining' for models of the family 'bert': "
        "select only one of them"
    )
    mine = load_objects([with_heads(("question_answering", "*"))])
    assert head_of(mine, "question_answering", "toy") == "question_answering for *"


def test_what_fails_in_a_head_names_its_plugin():
    broken = SimpleNamespace(
        pipeloom_heads=pipeloom.hookimpl(
            lambda: [HeadFor("pretraining", "toy", lambda *a: 7)], specname="pipeloom_heads"
        )
    )
    with pytest.raises(UsageError, match="plugin 'p0'.*, hook pipeloom_heads, its head of the task 'pretraining': it "):
        head_of(load_objects([broken]), "pretraining", "toy")


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


def test_a_dataset_may_measure_less_than_its_task_and_the_first_of_that_is_the_best():
    data = questions(True)
    data.figures = ("exact_match",)
    assert held_out(data)[1] == Goal("exact_match", True)
    with pytest.raises(UsageError) as error:
        held_out(data, "--best_metric", "f1")
    assert str(error.value).endswith("gives loss, start_loss, end_loss, exact_match")


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
            SimpleNamespace(broadcast_text=lambda text: said.append(text) or json.dumps({"f1": 50.0})),
        )
        assert evaluation.evaluate(7) == {"loss": 1.0, "f1": 50.0}
    assert Scorer.taken == [[0, 1]] and said == ['{"f1": 50.0}', "{}"]  # what the others say does not count
    data.scored = ()
    assert ScoredEvaluation(SimpleNamespace(evaluate=lambda: {"loss": 2.0}), data, tmp_path, True, None).evaluate(
        8
    ) == {"loss": 2.0}


def test_a_plugin_says_that_it_adds_tasks():
    from pipeloom.plugins.commands.plugin_list.listing import describe_plugins

    line = next(line for line in describe_plugins().splitlines() if line.split()[:1] == ["built_in_tasks"])
    assert line.split()[1:3] == ["tasks,", "heads"] and Path(hidden_states.__file__).exists()
