"""A package of somebody else, installed beside pipeloom: model, task, data, prepare, optimizer and logger at once."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from jobs import ROOT, environment
from safetensors.numpy import load_file

GUEST = Path(__file__).resolve().parents[1] / "guest"
PLUGINS = ["--plugins", "inter_first,orchard,heavy_ball"]
SMALL = ["--train_global_batch_size", "8", "--log_every", "1", "--learning_rate", "0.05", "--warmup_steps", "0"]
TWO_STAGES = ["--nnodes", "2", "--nproc_per_node", "1", "--grad_acc_steps", "2"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment that has the guest, and sees what this one has."""
    folder = tmp_path_factory.mktemp("guest")
    venv.create(folder / "env")
    own = next((folder / "env" / "lib").glob("python*/site-packages"))
    (own / "engine.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    copy = folder / "source"
    copy.mkdir()
    for file in GUEST.rglob("*.py"):  # pip builds in the folder itself
        (copy / file.relative_to(GUEST)).parent.mkdir(exist_ok=True)
        (copy / file.relative_to(GUEST)).write_bytes(file.read_bytes())
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(own), str(copy)]
    subprocess.run(command, check=True, env=environment())
    return folder / "env" / "bin" / "python"


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
    flags = [*PLUGINS, *SMALL, *TWO_STAGES, *data, "--train_steps", "6"]
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
