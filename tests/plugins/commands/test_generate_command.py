"""``generate``: tokens against an independent forward pass, in one process and while the model lies on several."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from jobs import ROOT, environment
from small_gpt2 import POSITIONS, Reference, write_small_gpt2

from pipeloom.core.commands.cli import main

fast = pytest.mark.fast
NUMPY = ["--plugins", str(ROOT / "tests" / "numpy_engine" / "plugin.py")]
COUNT = 10
PROMPTS = [[20, 30, 40, 50], [60, 70], [33], [9, 8, 7, 6, 5, 4, 3, 2, 1, 17, 18]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_small_gpt2(tmp_path_factory.mktemp("gpt2") / "model")
    lines = [json.dumps({"ids": ids, "id": f"n{number}"}) for number, ids in enumerate(PROMPTS)]
    (folder.parent / "prompts.jsonl").write_text("\n".join(lines))
    return folder


def generate(model, *flags, prompts=None):
    """Return what a command of its own writes, by JSON lines."""
    output = model.parent / "found.jsonl"
    source = ["--input", prompts or model.parent / "prompts.jsonl"]
    command = [sys.executable, ROOT / "entry.py", "generate", "--checkpoint", model, *source, "--output", output]
    command += ["--max_new_tokens", str(COUNT), *flags]
    result = subprocess.run(
        list(map(str, command)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=90,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def expected(model):
    reference = Reference(model)
    return [reference.greedy(ids, COUNT) for ids in PROMPTS]


def test_with_and_without_cache_in_batches_and_alone_the_tokens_are_those_of_the_reference(model):
    """In numpy's engine, so without one to compile."""
    wanted = expected(model)
    found = generate(model, *NUMPY)
    assert [line["ids"] for line in found] == wanted
    assert [line["id"] for line in found] == ["n0", "n1", "n2", "n3"]
    assert min(len(set(ids)) for ids in wanted) > 4  # more than one token over and over
    assert generate(model, *NUMPY, "--use_cache", "false", "--batch_size", "3") == found


@pytest.mark.parametrize(
    "layout",
    [("--nums_split", "2"), ("--nums_split", "1", "--tensor_parallel", "2")],
    ids=["pipeline", "tensor"],
)
def test_on_two_ranks_the_tokens_are_the_same(model, layout):
    found = generate(model, "--plugins", "inter_first", "--nproc_per_node", "2", *layout)
    assert [line["ids"] for line in found] == expected(model)


def test_one_process_and_two_data_parallel_ones_draw_the_same(model):
    draws = ["--temperature", "0.8", "--top_k", "20", "--top_p", "0.9", "--seed", "5"]
    two = generate(model, "--plugins", "inter_first", "--nproc_per_node", "2", "--nums_split", "1", *draws)
    one = generate(model, *NUMPY, "--batch_size", "1", *draws)
    assert two == one != generate(model, *NUMPY, *draws[:-1], "6")


@fast
@pytest.mark.parametrize(
    "flags, line",
    [
        ([], "give a text with --prompt, or a file with many as --input"),
        (["--prompt", "a", "--input", "b"], "one of the two"),
        (["--prompt", "a", "--temperature", "-1"], "--temperature -1: give 0"),
        (["--prompt", "a", "--temperature", "nan"], "--temperature nan: give 0"),
        (["--prompt", "a", "--top_p", "1.5"], "--top_p 1.5: give a probability"),
        (["--prompt", "a", "--seed", "3"], "--seed is for draws"),
        (["--prompt", "a", "--temperature", "0", "--top_k", "3"], "--top_k is for draws"),
        (["--prompt", "a", "--top_k", "0"], "must be a whole number of at least 1"),
        (["--prompt", "a", "--nproc_per_node", "2"], "no strategy is selected: add one to --plugins"),
        (["--prompt", "a", "--nproc_per_node", "two"], "--nproc_per_node: 'nproc_per_node' must be a whole number"),
        (["--prompt", "a", "--max_new_token", "3"], "did you mean '--max_new_tokens'?"),
        (["--prompt", "a" * 400], "it has 400 tokens, the model has 48 positions: shorten it"),
        (["--prompt", "a", "--task", "pretraining"], ""),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_starts(model, capsys, monkeypatch, flags, line):
    monkeypatch.setattr("pipeloom.core.launch.launcher.launch", lambda spec: pytest.fail("ranks are started"))
    assert main(["generate", "--checkpoint", str(model), *flags]) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1, said


@fast
def test_ids_that_the_model_does_not_have_are_refused(model, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"ids": [1]}\n{"ids": [1, 276]}\n')
    assert main(["generate", "--checkpoint", str(model), "--input", str(tmp_path / "p.jsonl")]) == 2
    assert "line 2: token 276 is none of the model's: it has 0 to 275" in capsys.readouterr().err


@fast
def test_text_is_gone_on_with_as_far_as_there_are_positions(model, capsys, monkeypatch):
    from pipeloom.plugins.libraries.generation.decoding_loop import Continuation
    from pipeloom.plugins.libraries.generation.worker import Desk

    seen = {}

    def launch(spec):
        desk = Desk.from_environment({"PIPELOOM_JOB": spec.job_text("")})
        prompts, seen["settings"] = desk.job()
        desk.put_found(0, Continuation(prompts[0], "positions"), 0.5)
        return 0

    monkeypatch.setattr("pipeloom.core.launch.launcher.launch", launch)
    assert main(["generate", "--checkpoint", str(model), "--prompt", "the café: "]) == 0
    out, err = capsys.readouterr()
    assert out == "the café: the café: \n"
    assert "--prompt: the text ends where the model has no more positions" in err
    assert (seen["settings"].end, seen["settings"].positions, seen["settings"].vocab) == (5, POSITIONS, 276)
