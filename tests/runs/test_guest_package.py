"""A package of somebody else, installed beside pipeloom: model, task, data, prepare, optimizer and logger at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jobs import ROOT, environment
from safetensors.numpy import load_file
from throw_away import install_in_own_environment

from pipeloom.core.commands.cli import main

GUEST = Path(__file__).resolve().parents[1] / "guest"
EXAMPLES = [ROOT / "examples" / "pipeloom-zigzag", ROOT / "examples" / "pipeloom-csv-logger"]
PLUGINS = ["--plugins", "inter_first,orchard,heavy_ball"]
LOGGERS = ["--plugins", "inter_first,orchard,heavy_ball,csv_logger,fresh"]
SMALL = ["--train_global_batch_size", "8", "--log_every", "1", "--learning_rate", "0.05", "--warmup_steps", "0"]
TWO_STAGES = ["--nnodes", "2", "--nproc_per_node", "1", "--grad_acc_steps", "2"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment that has the guest, the example packages, and one that ``new-plugin`` wrote."""
    folder = tmp_path_factory.mktemp("guest")
    assert main(["new-plugin", "logger", "fresh", "--output", str(folder / "fresh")]) == 0
    return install_in_own_environment(folder, GUEST, *EXAMPLES, folder / "fresh")


@pytest.fixture(scope="module")
def run(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("orchard")

    def entry(*arguments):
        command = [str(python), str(ROOT / "entry.py"), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    entry.folder = folder
    return entry


@pytest.fixture(scope="module")
def trained(run):
    """A run of two stages with an evaluation, and the same one that went on from its middle."""
    assert "model, dataset" in run("plugins") and "orchard 1.0" in run("plugins")
    assert run("prepare", "orchard", "--output", "fruit.txt", "--count", "40") == "fruit.txt: 40 fruit\n"
    run("prepare", "orchard", "--output", "held.txt", "--count", "10")
    data = ["--basket", "fruit.txt", "--held_out_basket", "held.txt", "--momentum", "0.5"]
    flags = [*LOGGERS, *SMALL, *TWO_STAGES, *data, "--train_steps", "6"]
    run(*flags, "--save_every", "3", "--output_dir", "whole")
    run("--resume", "whole/checkpoints/step_0000003", "--output_dir", "resumed")
    return data


def test_it_trains_evaluates_logs_and_goes_on_bit_for_bit(run, trained):
    lines = (run.folder / "whole" / "harvest.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("kept")] == list("123456")
    assert {line for line in lines if line.startswith("kept")} == {"kept step_0000003", "kept step_0000006"}
    assert "accuracy" in (run.folder / "whole" / "evaluation.jsonl").read_text()
    ends = []
    for name in ("whole", "resumed"):
        folder = run.folder / name / "checkpoints" / "step_0000006"
        ends.append({})
        for file in folder.rglob("*.safetensors"):
            ends[-1].update(load_file(str(file)))
    assert ends[0].keys() == ends[1].keys() and all((ends[0][name] == ends[1][name]).all() for name in ends[0])
    assert "optimizer/ball/fruit.weight" in ends[0]


def test_it_passes_parity(run, trained):
    said = run("parity", *PLUGINS, *SMALL, *TWO_STAGES, *trained, "--steps", "3", "--tolerance", "1e-5")
    assert "\nequal at tolerance 1e-05 over 3 steps" in said


def test_it_predicts(run, trained):
    said = run("predict", "--checkpoint", "whole", "--traits", "red,round,small,sweet")
    assert said.startswith("fruit: ") and said.split()[1] in ("apple", "plum", "cherry")
    assert "--traits A,B,C,D" in run("predict", "--checkpoint", "whole", "--help")


def test_the_loggers_of_other_packages_log_it_and_what_goes_on(run, trained):
    for name, steps in (("whole", "123456"), ("resumed", "456")):
        rows = (run.folder / name / "metrics.csv").read_text().splitlines()
        assert rows[0].startswith("step,loss") and [row.split(",")[0] for row in rows[1:]] == list(steps)
        lines = (run.folder / name / "fresh.txt").read_text().splitlines()
        assert lines[-1] == "done" and any(line.startswith("evaluation after step 6: loss ") for line in lines)
    assert "goes on after step 3" in (run.folder / "resumed" / "fresh.txt").read_text()


def run_pytest(python, folder, *arguments):
    pytest_there = [str(python), "-m", "pytest", "-p", "pipeloom.testing.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_there, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_packages_pass_their_own_tests_trained_over_two_nodes(python, tmp_path):
    for folder in EXAMPLES:
        for file in folder.glob("test_*.py"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    said = run_pytest(python, tmp_path, "-v", "test_zigzag.py", "test_csv_logger.py")
    assert "zigzag-trains_alike_in_PP2xDP2_sgd] PASSED" in said and "survives_a_run] PASSED" in said
    assert "SKIPPED" not in said


def test_the_guest_keeps_to_the_contract(python, run, trained):
    options = " ".join(trained[:4])
    for name in ("orchard", "heavy_ball,orchard"):
        said = run_pytest(python, run.folder, "-q", "-m", "not pipeloom_engine", "--pipeloom", f"{name} {options}")
        assert "failed" not in said and "passed" in said
