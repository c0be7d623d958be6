"""pipeloom from Python: the page docs/python.md runs as it is, and mistakes raise the line that a command prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jobs import environment
from squad_files import qa, squad, write_json, write_vocab

import pipeloom
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands import train as train_command
from pipeloom.core.commands.cli import parse

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ["inter_first", "bert", "wiki_ofrecord"]


def code_of(page):
    """The Python of a page, one block after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S))


def test_the_page_runs_as_it_is(tmp_path):
    write_json(tmp_path / "train.json", squad([qa(f"q{number}") for number in range(8)]))
    write_vocab(tmp_path / "vocab.txt", "paris", "rome", "where")
    (tmp_path / "page.py").write_text(code_of(ROOT / "docs" / "python.md"))
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("<Plan bert, pipeline 2 x data 2 on 2 logical nodes x 2 CPU devices, blocks [")
    assert any(line.startswith("--nums_split 3 does not divide the 4 devices") for line in lines)
    assert f"{tmp_path}/runs/towns {tmp_path}/runs/towns/checkpoints/step_0000003" in lines
    assert "'question': 'Where?'" in lines[-2] and "(2, 16" in lines[-1]


@pytest.mark.fast
def test_a_bare_import_is_cheap_and_knows_its_names():
    program = "import sys, pipeloom; print(len([m for m in sys.modules if m.startswith('pipeloom.')]), dir(pipeloom))"
    said = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    assert said.startswith("0 [") and all(f"'{name}'" in said for name in ("Config", "load", "plan", "train"))
    with pytest.raises(AttributeError, match="^module 'pipeloom' has no attribute 'trian'$"):
        pipeloom.trian  # noqa: B018
    program = "from pipeloom import plan; import sys; print('oneflow' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout == "False\n"
    )


@pytest.mark.fast
@pytest.mark.parametrize(
    "options, says",
    [
        ({"seq_lenght": 64}, "no option 'seq_lenght' (did you mean 'seq_length'?)"),
        ({"seq_length": 4}, "--seq_length: 'seq_length' must be at least 8, not 4"),
        ({"seed": "x"}, "--seed: 'seed' must be a whole number, not 'x'"),
        ({"plugins": ["inter_frist"]}, "no plugin 'inter_frist' (did you mean 'inter_first'?); there are: "),
        ({"plugins": 3}, "'plugins' must be names, not 3"),
        ({"plugins": None}, "no plugins are selected: "),
        (
            {"nnodes": 1, "gpu_num_per_node": 2, "nproc_per_node": 3},
            "--nproc_per_node 3 and --gpu_num_per_node 2",
        ),
        ({"config": "no.yaml"}, "--config no.yaml: No such file or directory"),
    ],
)
def test_a_mistake_raises_the_line_that_a_command_prints(options, says):
    with pytest.raises(UsageError) as raised:
        pipeloom.plan(**{"plugins": PLUGINS, **options})
    assert str(raised.value).startswith(says)


@pytest.mark.fast
def test_options_from_python_are_those_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("plugins: [inter_first, bert, wiki_ofrecord]\ntrain: {seed: 5, log_every: 3}\n")
    config = pipeloom.Config(Path("run.yaml"), seed=7, output_dir=tmp_path / "run", epochs=0.5)
    expected, _ = parse(
        ["--config", "run.yaml", "--seed", "7", "--output_dir", str(tmp_path / "run"), "--epochs", "0.5"]
    )
    assert config.to_dict() == expected.to_dict()
    assert (config.given, config.origins) == (expected.given, expected.origins)
    changed = config.replace(seed=8)
    assert (changed.seed, changed.log_every, config.seed) == (8, 3, 7)
    assert repr(config).startswith(
        "Config(plugins=['inter_first', 'bert', 'wiki_ofrecord'], epochs=0.5, seed=7, log_every=3"
    )


@pytest.mark.fast
@pytest.mark.parametrize(
    "code, reason, raised, says",
    [
        (1, "rank 1 (node 0) was killed by SIGKILL", RunError, "rank 1 (node 0) was killed by SIGKILL; logs: "),
        (2, "", UsageError, "a rank has failed, and said above why; logs: "),
        (130, "", KeyboardInterrupt, ""),
        (143, "", RunError, "the run was ended by SIGTERM; train(resume='"),
    ],
)
def test_how_a_job_ends_is_raised(monkeypatch, tmp_path, code, reason, raised, says):
    def launch(spec):
        assert spec.command[1:] == ["-m", "pipeloom", "train"]
        assert spec.env["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
        spec.report(reason)
        return code

    monkeypatch.setattr(train_command, "launch", launch)
    monkeypatch.setenv("RANK", "0")  # left behind by the engine, which this process has imported
    with pytest.raises(raised) as error:
        pipeloom.train(plugins=PLUGINS, output_dir=tmp_path / "run")
    assert str(error.value).startswith(says)


@pytest.mark.fast
def test_predictions_take_the_options_of_the_task(monkeypatch):
    from pipeloom.plugins.libraries.huggingface import loaded

    def add_arguments(parser):
        parser.add_argument("--text", nargs="+")
        parser.add_argument("--count", type=int, default=1)
        parser.add_argument("--loud", action="store_true")

    def run(options, model):
        return SimpleNamespace(lines=[f'["{text}", {options.count}, "{options.loud}"]' for text in options.text])

    offer = ("spell", SimpleNamespace(add_arguments=add_arguments, run=run), "plugin 'x' (1)")
    monkeypatch.setattr(loaded, "choose_task", lambda *_: offer)
    model = loaded.LoadedModel(SimpleNamespace(path=Path("run")), "spell")
    assert model.predictions(text=["a", "b"], count=2, loud=True) == [["a", 2, "True"], ["b", 2, "True"]]
    with pytest.raises(
        UsageError, match=r"^no option 'coun' \(did you mean 'count'\?\); there are: text, count, loud$"
    ):
        model.predictions(coun=1)
    with pytest.raises(UsageError, match="invalid int value: 'x'"):
        model.predictions(text=["a"], count="x")
