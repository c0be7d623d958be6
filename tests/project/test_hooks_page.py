"""docs/plugins.md is what the contract says, lists its changes, and every hook has an example that runs."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import ONE_PROCESS, environment, metrics

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import main, parse
from pipeloom.core.contract import hookspecs
from pipeloom.core.host.plugin_manager import PluginManager

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("hooks_page", ROOT / "scripts" / "hooks_page.py")
hooks_page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hooks_page)

#: Examples whose hooks are called in a run.
IN_A_RUN = (
    *("add_options", "default_options", "open_dataset", "tasks", "build_model", "initial_distributions"),
    *("sample_fields", "build_optimizer", "lr_schedule", "on_run_start", "on_step_end", "on_evaluate"),
    *("on_checkpoint", "on_run_end"),
)
#: Those that are tried by tests of their own below.
BY_THEMSELVES = (
    *("choose_layout", "partition", "place", "heads", "executor", "commands", "prepare_kinds", "record_kinds"),
    "cluster_options",
)


def example(name):
    return str(hooks_page.EXAMPLES / f"{name}.py")


def test_the_page_is_what_the_contract_says():
    """Signatures, texts and examples of every hook; ``python scripts/hooks_page.py --write`` mends it."""
    text = hooks_page.PAGE.read_text(encoding="utf-8")
    assert hooks_page.rewritten(text) == text


def test_every_hook_says_what_it_is_for():
    for name, hook in hooks_page.hooks().items():
        assert len((hook.__doc__ or "").split()) > 10, name


def test_the_list_of_changes_ends_with_this_version_and_names_hooks_that_are_there():
    changes = hooks_page.PAGE.read_text(encoding="utf-8").partition("\n## Changes of the contract\n")[2]
    versions = [int(number) for number in re.findall(r"^### Version (\d+)", changes, re.M)]
    assert versions == list(range(hookspecs.CONTRACT_VERSION, 0, -1))
    gone = {entry.hook for entry in hookspecs.DEPRECATIONS}
    named = {name for name in re.findall(r"`(pipeloom_\w+)\b", changes) if not name.endswith("_")}
    assert named <= {*hooks_page.hooks(), *gone}


def test_every_hook_has_an_example_that_one_of_these_tests_runs():
    """A new hook needs a file in examples/hooks/, and a place in one of the two lists above."""
    names = [name[len("pipeloom_") :] for name in hooks_page.hooks()]
    assert sorted(path.stem for path in hooks_page.EXAMPLES.glob("*.py")) == sorted(names)
    assert sorted((*IN_A_RUN, *BY_THEMSELVES)) == sorted(names)
    for name in names:
        manager = PluginManager()
        manager.load([example(name)])
        answering = [one.plugin_name for one in manager.implementations(f"pipeloom_{name}")]
        assert example(name) in answering, f"the example {name}.py has no hook pipeloom_{name}"


def test_the_examples_run(tmp_path):
    """All of a run's hooks at once, on the engine in numpy; the digits' sums are learned."""
    plugins = ",".join([*map(example, IN_A_RUN), str(ROOT / "tests" / "numpy_engine" / "plugin.py")])
    flags = [*ONE_PROCESS, "--train_steps", "20", "--log_every", "5", "--eval_every", "10", "--greeting", "good day"]
    flags += ["--train_global_batch_size", "16", "--output_dir", "run", "--trace_plugins", "trace.jsonl"]
    command = [sys.executable, str(ROOT / "entry.py"), "--plugins", f"inter_first,{plugins}", *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode()
    assert done.returncode == 0, said
    called = {}
    for file in ("trace.jsonl", "trace.rank_0.jsonl"):
        for line in map(json.loads, (tmp_path / file).read_text().splitlines()):
            if line["event"] == "call":
                called.setdefault(Path(line["plugin"]).stem, set()).add(line["hook"])
    assert {name for name in IN_A_RUN if f"pipeloom_{name}" not in called.get(name, ())} == set()
    run = tmp_path / "run"
    losses = [float(line.split(",")[1]) for line in (run / "losses.csv").read_text().splitlines()]
    assert losses == pytest.approx([line["loss"] for line in metrics(run)], abs=1e-6)
    assert len(losses) == 5 and losses[-1] < losses[0] / 4
    assert (run / "end.txt").read_text() == "well after step 20\n"
    assert "seq_length: 8" in (run / "config.yaml").read_text()
    for line in ("good day, 20 steps", "begins     bag, 20 steps, in run", "copy       step_0000020 of step 20"):
        assert line in said.splitlines()
    assert re.search(r"^better     \d+\.\d+ after step 20$", said, re.M) and "plugins in the step loop" in said


def test_the_examples_of_layouts_lay_out():
    plugins = [*(example(name) for name in ("choose_layout", "partition", "place")), "bert", "wiki_ofrecord"]
    plan = pipeloom.plan(plugins=plugins, num_hidden_layers=4, nnodes=2, nproc_per_node=2)
    assert (plan.mesh.pipeline, plan.mesh.data, plan.split) == (2, 2, (3, 3))
    assert [sorted(ranks) for ranks in plan.placement.stages] == [[2, 3], [0, 1]]


def test_the_example_of_a_head_stands_before_that_of_any_model():
    plugins = ["data_parallel", *map(example, ("default_options", "open_dataset", "tasks", "build_model"))]
    assert list(pipeloom.plan(plugins=plugins).model.losses) == ["square_loss"]
    assert list(pipeloom.plan(plugins=[*plugins, example("heads")]).model.losses) == ["absolute_loss"]


def test_the_example_of_an_executor_refuses_a_large_job():
    plugins = ["inter_first", "bert", "wiki_ofrecord", example("executor")]
    assert pipeloom.plan(plugins=plugins, nnodes=2, nproc_per_node=4).cluster.size == 8
    with pytest.raises(UsageError, match="^a job may have 8 ranks, this has 10: "):
        pipeloom.plan(plugins=plugins, nnodes=5, nproc_per_node=2)


def test_the_example_of_a_batch_system_says_which_node_this_is(capsys):
    environment = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}
    arguments = ["--plugins", f"inter_first,bert,wiki_ofrecord,{example('cluster_options')}"]
    config, _ = parse(arguments, environment)
    assert (config.nnodes, config.node_rank) == (3, 2)
    assert capsys.readouterr().out == "pipeloom: from Open MPI: --nnodes 3 --node_rank 2\n"
    assert parse(arguments, {"OMPI_COMM_WORLD_SIZE": "1"})[0].node_rank is None


def test_the_examples_of_commands_and_records_run(tmp_path, capsys):
    assert main(["add", "2", "3", "--plugins", example("commands")]) == 0
    folder, kinds = str(tmp_path / "digits"), ["--plugins", example("record_kinds")]
    assert main(["prepare", "--plugins", example("prepare_kinds"), "digits", "--output", folder]) == 0
    assert main(["prepare", "validate", folder, *kinds]) == 0
    assert main(["prepare", "inspect", folder, "--count", "1", *kinds]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"5\n{folder}: 10 records\n") and "10 rows of digits" in said
    assert re.search(r"^ +8 \+ 6 \+ 5 \+ 2 \+ 3 \+ 0 \+ 0 \+ 0 = 24$", said, re.M), said
