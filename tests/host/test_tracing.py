"""``--trace_plugins`` and PIPELOOM_LOAD_PLUGINS: what is written, summed up, and left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeloom.core.base.errors import PipeloomError, UsageError
from pipeloom.core.commands.cli import main, parse_run
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.tracing import Trace, brief
from pipeloom.plugins.commands.plugin_list.listing import describe_plugins

pytestmark = pytest.mark.fast

PLUGIN = """
import time
import pipeloom

@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages):
    return [1, len(blocks) - 1]

@pipeloom.hookimpl
def pipeloom_on_step_end(step, metrics):
    time.sleep(0.02)
    if step == 3:
        raise ValueError("three")
"""
WRAPPER = """
import time
import pipeloom

@pipeloom.hookimpl({form}=True)
def pipeloom_on_step_end(step):
    time.sleep(0.01)
    answers = yield
    return answers
"""


def calls(file, hook="pipeloom_on_step_end"):
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line.get("hook") == hook]


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """A manager with these plugins, whose calls go into ``trace.jsonl``."""
    monkeypatch.chdir(tmp_path)

    def load(*texts, environment=None):
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.py").write_text(text)
        manager = PluginManager()
        manager.load(
            [*(f"./{number}.py" for number in range(len(texts))), "-console", "-jsonl", "-tensorboard", "-profiler"]
        )
        manager.trace_to(Trace.open("trace.jsonl", environment or {}))
        return manager

    return load


def test_each_call_is_a_line_with_arguments_answer_and_time(traced, tmp_path):
    manager = traced(PLUGIN)
    assert manager.hook.pipeloom_partition(blocks=[1, 2, 3], num_stages=2, config=None, memory=None) == (1, 2)
    manager.hook.pipeloom_on_step_end(run=None, step=1, metrics={"loss": 0.5})
    with pytest.raises(PipeloomError, match="three"):
        manager.hook.pipeloom_on_step_end(run=None, step=3, metrics=None)
    (partition,) = calls(tmp_path / "trace.jsonl", "pipeloom_partition")
    assert partition["arguments"] == {"blocks": "[1, 2, 3]", "num_stages": "2"} and partition["result"] == "[1, 2]"
    first, failed = calls(tmp_path / "trace.jsonl")
    assert first["plugin"] == "./0.py" and first["rank"] is None and not first["wrapper"]
    assert first["arguments"] == {"step": "1", "metrics": "{'loss': 0.5}"} and first["result"] is first["error"] is None
    assert 0.02 <= first["seconds"] and failed["error"] == "ValueError('three')"
    assert set(first) == set(failed) == set(partition)


@pytest.mark.parametrize("form", ["hookwrapper", "wrapper"])
def test_time_is_the_plugins_own_and_the_summary_adds_it_up(traced, tmp_path, form):
    manager = traced(PLUGIN, WRAPPER.format(form=form))
    for step in (1, 2):
        manager.hook.pipeloom_on_step_end(run=None, step=step, metrics=None)
    by_plugin = {
        name: [one for one in calls(tmp_path / "trace.jsonl") if one["plugin"] == name] for name in manager.names
    }
    assert all(one["wrapper"] and one["seconds"] >= 0.03 for one in by_plugin["./1.py"])
    assert all(one["own_seconds"] < one["seconds"] - 0.019 for one in by_plugin["./1.py"])
    title, first, second = manager.trace.summary()
    assert "in the step loop" in title
    assert first.split()[0] == "./0.py" and second.split()[0] == "./1.py" and "(on_step_end x 2)" in second
    summary = json.loads((tmp_path / "trace.jsonl").read_text().splitlines()[-1])
    own = sum(one["own_seconds"] for one in by_plugin["./1.py"])
    assert summary["plugins"]["./1.py"]["seconds"] == pytest.approx(own, abs=1e-5)
    assert summary["loop_seconds"] >= 0.06


def test_a_rank_has_a_file_of_its_own_and_a_second_start_goes_on_in_it(traced, tmp_path):
    rank = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for _ in range(2):
        traced(PLUGIN, environment=rank).hook.pipeloom_on_step_end(run=None, step=1, metrics=None)
    assert [line["rank"] for line in calls(tmp_path / "trace.rank_3.jsonl")] == [3, 3]
    assert not (tmp_path / "trace.jsonl").exists()


def test_without_a_trace_the_functions_of_plugins_are_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, plugins, _ = parse_run(["--plugins", "inter_first,bert,wiki_ofrecord"])
    assert plugins.trace is None and config.trace_plugins is None
    config, plugins, _ = parse_run(["--plugins", "inter_first,bert,wiki_ofrecord", "--trace-plugins", "t.jsonl"])
    assert plugins.trace is not None and "trace_plugins: null" in config.to_yaml()
    assert [line["plugin"] for line in calls(tmp_path / "t.jsonl", "pipeloom_add_options")][-1] == "wiki_ofrecord"


def test_a_file_that_cannot_be_written_costs_a_line_and_a_full_disk_no_run(tmp_path, capsys):
    file = str(tmp_path / "no" / "t.jsonl")
    assert main(["--plugins", "inter_first,bert,wiki_ofrecord", "--trace_plugins", file]) == 2
    assert capsys.readouterr().err == (
        f"pipeloom: error: --trace_plugins {file}: No such file or directory; name a file that can be written\n"
    )
    assert Trace.open("/dev/full", {}).summary()[-1].split() == "2 lines could not be written".split()


def test_texts_of_arguments_are_short_whatever_they_are_of():
    class Bad:
        def __getattr__(self, name):
            raise RuntimeError(name)

    class Named:
        name = "box"

    assert brief(np.zeros((1000, 3), np.int32)) == "<ndarray int32 (1000, 3)>"
    assert (brief(Named()), brief(Bad()), brief(None), brief(True)) == ("<Named box>", "<Bad>", "None", "True")
    assert len(brief([{"a" * 500: list(range(10000))}] * 50)) < 3000


def test_installed_plugins_are_those_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("zig", "zag"):
        (tmp_path / f"{name}_plugin.py").write_text(PLUGIN)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pipeloom]\n{name} = {name}_plugin\n")
    monkeypatch.setenv("PIPELOOM_LOAD_PLUGINS", " zig,zagg")
    text = describe_plugins()
    assert "[zig 1.0]" in text and "[zag 1.0]" not in text
    assert "note: PIPELOOM_LOAD_PLUGINS leaves out zag\n" in text
    assert "names 'zagg', which no installed package offers (did you mean 'zag'?)\n" in text
    PluginManager().load(["zig"])
    with pytest.raises(UsageError, match="^plugin 'zag' is installed, and PIPELOOM_LOAD_PLUGINS in the environment"):
        PluginManager().load(["zag"])
    monkeypatch.setenv("PIPELOOM_LOAD_PLUGINS", "")
    assert "installed: none\n  note: PIPELOOM_LOAD_PLUGINS leaves out zag, zig\n" in describe_plugins()
    monkeypatch.delenv("PIPELOOM_LOAD_PLUGINS")
    assert "[zig 1.0]" in describe_plugins() and "note:" not in describe_plugins()
