"""Defaults that a selection replaces or leaves out, with their options."""

from __future__ import annotations

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.planning.planner import make_plan

pytestmark = pytest.mark.fast

USUAL = "inter_first,bert,wiki_ofrecord"
OPTIMIZER = """
import pipeloom
from pipeloom.core.contract.optimizer import OptimizerSpec

@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("momentum", float, 0.9, section="optimization", help="of this optimizer")

@pipeloom.hookimpl
def pipeloom_build_optimizer(config):
    return OptimizerSpec("sgd", settings={"momentum": config.momentum})
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OPTIMIZER, encoding="utf-8")


def refused(*arguments):
    with pytest.raises(UsageError) as raised:
        make_plan(*parse(arguments))
    return str(raised.value)


def test_an_optimizer_replaces_the_default_one_with_its_options():
    config, plugins = parse(["--plugins", f"{USUAL},./mine.py", "--momentum", "0.5", "--warmup_steps", "3"])
    assert config.momentum == 0.5 and plugins.who_answers("pipeloom_build_optimizer") == "./mine.py"
    assert "adam_eps" not in config.declared and config.learning_rate == 1e-3  # of the schedules, which are still there
    assert make_plan(config, plugins).config.warmup_steps == 3
    assert "no option '--adam_eps'" in refused("--plugins", f"{USUAL},./mine.py", "--adam_eps", "1e-6")
    (option,) = [each for each in parse(["--plugins", USUAL])[0].declared.values() if each.name == "momentum"]
    assert option.owner != "./mine.py"


def test_an_option_of_a_default_that_answers_says_how_to_leave_it_out(tmp_path):
    (tmp_path / "clash.py").write_text(OPTIMIZER.partition("@pipeloom.hookimpl\ndef pipeloom_build")[0])
    said = refused("--plugins", f"{USUAL},./clash.py")
    assert "'./clash.py' both declare the option 'momentum'" in said and "-optimization)" in said


def test_a_default_is_left_out_by_its_name(tmp_path):
    config, plugins = parse(["--plugins", f"{USUAL},-tensorboard"])
    assert plugins.get("tensorboard") is None and plugins.get("jsonl") is not None
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert parse(["--config", "again.yaml"])[1].get("tensorboard") is None
    assert plugins.selection["-tensorboard"] == "" and "-tensorboard" not in plugins.versions


@pytest.mark.parametrize(
    "name, says",
    [
        (
            "-tensorbord",
            "there is no default of this name (did you mean 'tensorboard'?); those that can be left out are",
        ),
        ("-bert", "there is no default of this name"),
        ("-optimization", "leaves out the optimizer, and a run needs one: select another, or leave this as it is"),
        ("-by_parameters", "leaves out the layout, and a run needs one"),
    ],
)
def test_what_cannot_be_left_out_is_one_line(name, says):
    said = refused("--plugins", f"{USUAL},{name}")
    assert says in said and said.startswith(f"--plugins {name}") and "\n" not in said


def test_each_default_answers_one_kind_of_question():
    """So that one that is replaced is replaced as a whole."""
    from pipeloom.core.contract.hookspecs import ONE_ANSWER
    from pipeloom.core.host.plugin_manager import hooks_of

    manager = PluginManager()
    several = {name: [hook for hook in hooks_of(manager.get(name)) if hook in ONE_ANSWER] for name in manager.defaults}
    assert [name for name, hooks in several.items() if len(hooks) > 1] == ["by_parameters"]  # layout and partition


def test_an_optimizer_with_settings_that_are_no_numbers_is_its_authors_fault(tmp_path):
    for wrong, says in (
        ('OptimizerSpec("sgd", {"momentum": 0.5})', "'weight_decay' of its OptimizerSpec must be a number, not {"),
        (
            'OptimizerSpec("sgd", settings={"momentum": "x"})',
            "'momentum' of its OptimizerSpec must be a number, not 'x'",
        ),
        ('OptimizerSpec("sgd", settings=[1])', "'settings' of its OptimizerSpec must be numbers by name, not [1]"),
    ):
        text = OPTIMIZER.partition("    return")[0] + f"    return {wrong}\n"
        name = f"wrong{len(says)}.py"
        (tmp_path / name).write_text(text)
        assert f"hook pipeloom_build_optimizer: {says}" in refused("--plugins", f"{USUAL},./{name}")
