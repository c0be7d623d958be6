"""Wrappers of hooks, versions of the contract, and what it drops."""

from __future__ import annotations

import pytest

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.hookspecs import Deprecation
from pipeloom.core.host.plugin_manager import PluginManager

pytestmark = pytest.mark.fast

HOOK = "import pipeloom\n@pipeloom.hookimpl\ndef "
OLD = "@pipeloom.hookimpl(specname='{0}', hookwrapper=True)\ndef around({1}):\n{2}"
NEW = "@pipeloom.hookimpl(specname='{0}', wrapper=True)\ndef around({1}):\n{2}"
SPLIT = {"memory": None, "blocks": [1, 2, 3], "num_stages": 2, "config": None}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """``load(text, ...)`` selects a plugin for each text, ``./0.py`` and so on."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(*texts):
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.py").write_text(text, encoding="utf-8")
        manager = PluginManager()
        manager.load([f"./{number}.py" for number in range(len(texts))])
        return manager

    return write_and_load


def says(action, *arguments, **named):
    with pytest.raises(PipeloomError) as raised:
        action(*arguments, **named)
    return str(raised.value)


@pytest.mark.parametrize(
    "form, body",
    [
        (OLD, "    outcome = yield\n    outcome.force_result(outcome.get_result()[::-1])\n"),
        (NEW, "    answer = yield\n    return answer[::-1]\n"),
    ],
)
def test_a_wrapper_changes_the_one_answer_and_is_held_to_the_contract(load, form, body):
    strategy = HOOK + "pipeloom_partition(blocks): return [1, 2]\n"
    wrapper = "import pipeloom\n" + form.format("pipeloom_partition", "blocks", body)
    assert load(strategy, wrapper).hook.pipeloom_partition(**SPLIT) == (2, 1)
    assert load(wrapper).hook.pipeloom_partition(**{**SPLIT, "blocks": blocks()}) == (2, 1)  # around the default
    bad = "import pipeloom\n" + form.format("pipeloom_partition", "blocks", body.replace("[::-1]", "[:1]"))
    said = says(load(strategy, bad).hook.pipeloom_partition, **SPLIT)
    assert said.startswith("plugin './1.py' (file), hook pipeloom_partition: it answers [1], not 2 positive counts")


def blocks():
    from pipeloom.core.contract.blocks import Block, Cost, ParameterSpec

    sizes = (40, 20, 10)
    return [
        Block(str(size), (ParameterSpec(str(size), (size,)),), Cost(1.0, 4.0, 4.0), (), lambda scope: None)
        for size in sizes
    ]


def test_faults_name_who_raised_them_through_any_wrapper(load):
    around = "import pipeloom\n" + OLD.format("pipeloom_partition", "", "    yield\n")
    broken = HOOK + "pipeloom_partition(): raise KeyError('x')\n"
    assert says(load(broken, around).hook.pipeloom_partition, **SPLIT).startswith(
        "plugin './0.py' (file), hook pipeloom_partition: KeyError: 'x'"
    )
    fine = HOOK + "pipeloom_partition(): return [1, 2]\n"
    for body, what in (
        ("    1 / 0\n    yield\n", "ZeroDivisionError"),
        ("    yield\n    1 / 0\n", "ZeroDivisionError"),
        ("    yield\n    yield\n", "it has a second 'yield', as a wrapper of the others"),
        ("    if False: yield\n", "it ends before its 'yield', as a wrapper of the others"),
    ):
        bad = "import pipeloom\n" + OLD.format("pipeloom_partition", "", body)
        assert says(load(fine, bad).hook.pipeloom_partition, **SPLIT).startswith(
            f"plugin './1.py' (file), hook pipeloom_partition: {what}"
        )


def test_a_wrapper_around_all_plugins(load):
    """Every plugin is called, also after one that fails, and the wrapper sees the answers of the rest."""
    told = HOOK + "pipeloom_on_step_end(run, step): run.append(step)\n"
    broken = HOOK + "pipeloom_on_step_end(): raise ValueError('no')\n"
    around = "import pipeloom\n" + OLD.format(
        "pipeloom_on_step_end", "run", "    run.append('before')\n    yield\n    run.append('after')\n"
    )
    run = []
    said = says(load(told, broken, around).hook.pipeloom_on_step_end, run=run, step=7, metrics=None)
    assert run == ["before", 7, "after"] and said.startswith("plugin './1.py' (file), hook pipeloom_on_step_end: Value")


@pytest.mark.parametrize(
    "version, says_",
    [
        (
            "3",
            "is made for version 3 of the contract between pipeloom and plugins, this pipeloom has version 2: update",
        ),
        ("'2'", "PIPELOOM_API must be the version of a contract, 1 to 2, not '2'"),
        ("0", "PIPELOOM_API must be the version of a contract, 1 to 2, not 0"),
    ],
)
def test_a_plugin_for_a_later_contract_is_refused(load, version, says_):
    assert hookspecs.CONTRACT_VERSION == 2
    text = HOOK + f"pipeloom_partition(): pass\nPIPELOOM_API = {version}\n"
    assert f"plugin './0.py' (file): {says_}" in says(load, text)
    assert load(text.replace(version, "1")).names == ("./0.py",)


@pytest.mark.parametrize(
    "argument, what", [("", "hook pipeloom_partition"), ("config", "the argument 'config' of hook")]
)
def test_what_is_deprecated_is_warned_of_once_and_then_refused(load, monkeypatch, capsys, argument, what):
    monkeypatch.setattr("pipeloom.core.host.deprecation._warned", set())
    entry = Deprecation("pipeloom_partition", 2, 3, "use something else", argument)
    monkeypatch.setattr(hookspecs, "DEPRECATIONS", (entry,))
    text = HOOK + "pipeloom_partition(config): return [1, 2]\n"
    load(text), load(text), load(HOOK + "pipeloom_on_run_end(error): pass\n")
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1 and warned.startswith(f"pipeloom: warning: plugin './0.py' (file): {what}")
    assert warned.endswith(
        "is deprecated since version 2 of the contract and goes with version 3: use something else\n"
    )
    monkeypatch.setattr(hookspecs, "CONTRACT_VERSION", 3)
    assert says(load, text).endswith("is gone since version 3 of the contract: use something else")
