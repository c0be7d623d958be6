"""Each check of the kit finds the plugin that is wrong in what it is for, and says what to change.

A plugin is a good one with a piece of its text in another form. Checks by training are in ``test_kit_runs.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeloom.testing import ConformanceError, Subject, checks_of

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
STREAM = ROOT / "tests" / "masked_stream.py"
MODEL = ROOT / "examples" / "my_model.py"
STRATEGY = ROOT / "examples" / "my_strategy.py"
BALL = ROOT / "tests" / "guest" / "pipeloom_orchard" / "heavy_ball.py"
LOGGER = ROOT / "examples" / "pipeloom-csv-logger" / "pipeloom_csv_logger.py"
OTHERS = ROOT / "tests" / "testing" / "small_plugin.py"

VALUES = "{name: self.values[name][list(indices)].astype(self.fields[name].dtype) for name in names}"
LAYER_COST = "4.0 * length * width, 4.0 * width, 4.0 * (6 * width + length)"

#: Check, good plugin, what is replaced, by what, and what the check must say of it.
WRONG = [
    ("imports_no_engine", STRATEGY, "import pipeloom\n", "import jax, pipeloom\n", "importing it imports jax"),
    ("loads_and_makes_a_plan", MODEL, "(embeddings(encoder), *layers,", "(*layers, *layers,", "two blocks of the name"),
    ("places_every_rank_once", STRATEGY, "stages.reverse()", "stages[0] = stages[-1]", "each of the ranks 0..1 once"),
    ("places_every_rank_once", STRATEGY, "= mesh.data *", "= mesh.data // (mesh.tensor % 2) *", "ZeroDivisionError"),
    (
        "answers_the_same_everywhere",
        STRATEGY,
        "if config.head_on_node_0",
        "if os.environ.get('PYTHONHASHSEED') == '7'",  # as the order of a set would be another
        "asked in another process",
    ),
    (
        "answers_the_same_everywhere",
        STRATEGY,
        "if config.head_on_node_0",
        "pipeloom.asked = 1 - getattr(pipeloom, 'asked', 0)\n    if pipeloom.asked and mesh.size == 2",
        "asked again",
    ),
    ("lays_out_the_cluster", OTHERS, "config.nums_split or 1", "2 * cluster.size", "it refuses all"),
    ("lays_out_the_cluster", OTHERS, "return mesh_from_splits(cluster,", "return Mesh(cluster.size, 2) or (", "uses"),
    ("partitions_all_blocks", OTHERS, "- num_stages + 1]", "- num_stages]", "positive counts that sum up"),
    (
        "takes_the_parameters_it_declares",
        MODEL,
        '        *dense(f"{name}.value", width, width),\n',
        "",
        "'gated.layers.0.value.weight', which it does not declare",
    ),
    (
        "takes_the_parameters_it_declares",
        MODEL,
        '*layer_norm(f"{name}.norm", width),',
        '*layer_norm(f"{name}.norm", width), *layer_norm(f"{name}.more", width),',
        "'gated.layers.0.more.weight' and never takes it",
    ),
    (
        "takes_the_parameters_it_declares",
        MODEL,
        "self.gate(x_NH)) *",
        "x_NH) *",
        "'gated.layers.0.gate.weight' and computes nothing with it",
    ),
    (
        "takes_the_parameters_it_declares",
        MODEL,
        '*dense(f"{name}.gate", width, width)',
        '*dense(f"{name}.gate", width, width + 1)',
        "block 'layers.0': linear of x (384, 32) with the weight (32, 33)",
    ),
    (
        "reads_the_fields_it_states",
        MODEL,
        '("input_mask",), Layer',
        '("input_mask", "segment_ids"), Layer',
        "names the fields segment_ids in 'inputs' and never reads them",
    ),
    ("reads_the_fields_it_states", MODEL, '("input_mask",), Layer', "(), Layer", "which its 'inputs' do not name"),
    ("returns_what_it_states", MODEL, "(losses_N * weights_N).sum()}", "losses_N * weights_N}", "must be one number"),
    ("returns_what_it_states", MODEL, '{"word_loss": (', '{"words": (', "returns no 'word_loss' in training"),
    (
        "states_the_flops_it_computes",
        MODEL,
        "Cost(4.0 * width * width +",
        "Cost(2.0 * width * width +",
        "block 'layers.0' states 7077888 FLOPs for 3 samples, its products are 7864320",
    ),
    (
        "states_the_bytes_it_keeps",
        MODEL,
        LAYER_COST,
        LAYER_COST.replace("6 * width + length", "width"),
        "block 'layers.0' states that it keeps 49152 bytes",
    ),
    (
        "states_the_bytes_it_keeps",
        MODEL,
        LAYER_COST,
        LAYER_COST.replace("4.0 * width, ", "2.0 * width, "),
        "block 'layers.0' states that it hands on 24576 bytes of 3 samples, it is 49152",
    ),
    (
        "splits_over_tensor_groups",
        OTHERS,
        'table = scope.parameter("words")',
        'table = scope.parameter("words")\n        scope.ops.use(table).reshape(VOCABULARY * WIDTH)',
        "it reshapes (98, 16)",
    ),
    (
        "comes_back_from_a_folder",
        MODEL,
        '"hidden_size": width,',
        '"hidden_size": 2 * width,',
        "the checkpoint that it makes cannot be read by --init_from",
    ),
    (
        "comes_back_from_a_folder",
        MODEL,
        "weights=Weights(folder, built), ",
        "",
        "with --init_from its ModelSpec has no 'weights'",
    ),
    (
        "comes_back_from_a_folder",
        MODEL,
        "return WeightAdapter(tuple(rules)",
        "return Turned(tuple(rules)",
        "the parameter 'gated.layers.0.gate.weight' comes back from its checkpoint with other values",
    ),
    ("gives_the_fields_it_declares", STREAM, '"segment_ids": 2', '"segment_ids": 0', "it must be 0 to -1"),
    ("gives_the_fields_it_declares", STREAM, ".astype(self.fields[name].dtype)", "", "declared is int32"),
    (
        "gives_the_fields_it_declares",
        STREAM,
        VALUES,
        VALUES.replace("in names}", "in self.fields}"),
        "return those fields that are asked for",
    ),
    ("gives_the_fields_it_declares", STREAM, "[list(indices)]", "[sorted(indices)]", "in which order"),
    ("gives_the_fields_it_declares", STREAM, "made-up samples", "made-up\\nsamples", "return one phrase for the log"),
    ("is_the_same_when_opened_again", STREAM, "default_rng(seed)", "default_rng()", "opened again, it has another"),
    (
        "is_the_same_when_opened_again",
        STREAM,
        "default_rng(seed)",
        "default_rng(abs(hash('some text')))",
        "opened in another process, it has another",
    ),
    (
        "goes_on_after_a_resume",
        STREAM,
        "return {name: self.values[name]",
        "self.count = getattr(self, 'count', 0) + 1\n        return {name: (self.values[name] + self.count)",
        "is another in a run that resumes at this step",
    ),
    (
        "holds_out_what_it_trains_for",
        STREAM,
        "config.max_predictions, split",
        "config.max_predictions + (split == 'eval'), split",
        "declare the same",
    ),
    (
        "loads_and_makes_a_plan",
        BALL,
        "return HeavyBall(config.momentum)",
        "from pipeloom.core.contract.optimizer import OptimizerSpec\n    return OptimizerSpec('adam')",
        "has no optimizer 'adam'",
    ),
    (
        "agrees_between_layouts_of_numbers",
        BALL,
        '- part.state["ball"] * rate',
        '- part.state["ball"] * rate / float(arrays.square_sum(part.gradient))',
        "with two parts of each parameter (--shard)",
    ),
    ("agrees_between_layouts_of_numbers", BALL, "if part is not None:", "if True:", "its update fails on 2 ranks"),
    (
        "keeps_its_state_in_checkpoints",
        BALL,
        "for part in parts:",
        "rate *= 1 + self.__dict__.pop('first', True)\n        self.first = False\n        for part in parts:",
        "is another after a resume from a checkpoint",
    ),
    (
        "has_a_rate_for_every_step",
        OTHERS,
        "return 0.1 / (1 + step)",
        "self.asked = getattr(self, 'asked', 0) + 1\n        return 0.1 / self.asked",
        "when it is asked out of order",
    ),
    ("survives_a_run", LOGGER, "if run.is_main and metrics is not None", "if run.is_main", "pipeloom_on_step_end"),
    ("writes_on_the_main_rank_alone", LOGGER, "if run.is_main and metrics", "if metrics", "ask run.is_main first"),
]
#: An adapter that writes what a layer has in two matrices the other way round than it reads them.
TURNED = """

class Turned(WeightAdapter):
    def to_huggingface(self, shapes):
        turned = tuple(replace(rule, parameters=rule.parameters[::-1]) for rule in self.rules)
        return WeightAdapter(turned).to_huggingface(shapes)

    def describe(self):
        return WeightAdapter(tuple(replace(rule, parameters=rule.parameters[::-1]) for rule in self.rules)).describe()
"""


def check_named(subject, name):
    """The check, which fits this plugin."""
    return next(check for check in checks_of(subject) if check.name == name)


def subject_of(path):
    """A plugin in the run in which these tests put it: with data in memory."""
    data = "" if path.name.startswith(STREAM.stem) else f",{STREAM}"
    return Subject(f"{path}{data}")


@pytest.mark.parametrize(
    "name, good, old, new, says", WRONG, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(WRONG)]
)
def test_it_finds_what_is_wrong(name, good, old, new, says, tmp_path, monkeypatch):
    text = good.read_text()
    assert text.count(old) >= 1, f"{good.name} has changed: it has no {old!r}"
    imports = "import os\n" if "os." in new else ""
    (tmp_path / good.name).write_text(imports + text.replace(old, new) + (TURNED if "Turned" in new else ""))
    (tmp_path / "jax.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConformanceError) as raised:
        subject = subject_of(tmp_path / good.name)
        check_named(subject, name).run(subject, tmp_path)
    assert says in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("path", [STREAM, MODEL, STRATEGY, BALL, LOGGER, OTHERS], ids=lambda path: path.stem)
def test_the_good_ones_pass(path, tmp_path):
    subject = subject_of(path)
    for check in checks_of(subject):
        if not check.engine:
            (tmp_path / check.name).mkdir()
            check.run(subject, tmp_path / check.name)


def test_each_check_without_training_has_a_plugin_that_it_finds():
    from pipeloom.testing.collecting import ANY, CHECKS, LOADS

    names = {check.name for checks in (*CHECKS.values(), ANY, [LOADS]) for check in checks if not check.engine}
    assert names == {name for name, *_ in WRONG}
