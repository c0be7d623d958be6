"""The losses that PyTorch and transformers have from the same HuggingFace folder on the same real records.

The fixture was made by ``benchmarks/reference_curve.py reference --recipe tiny``; the folder is made here
again, by the same few lines. Its sizes and its LayerNorm epsilon are none of our defaults.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from jobs import ROOT, Training
from shared_data import shared

FIXTURE = Path(__file__).parents[2] / "fixtures" / "reference_curve.json"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reference_curve", ROOT / "benchmarks" / "reference_curve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(script, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny_bert")
    script.write_folder(path, "tiny")
    return path


@pytest.fixture(scope="module")
def runs(script, folder, tmp_path_factory):
    """Of both cases, at the same time."""
    records = shared("wiki_ofrecord_seq_len_128")
    return {
        case: Training(
            tmp_path_factory.mktemp(case) / "run", *script.flags(folder, records, case), *script.LAYOUTS["one process"]
        )
        for case in ("constant", "linear")
    }


@pytest.mark.parametrize("case", ["constant", "linear"])
def test_the_loss_is_that_of_pytorch_at_each_step(script, folder, runs, case):
    run, curves = runs[case], json.loads(FIXTURE.read_text())["cases"][case]
    ours = [step["loss"] for step in run.curve()]
    for precision in ("float32", "float64"):
        assert script.largest(ours, curves[precision])[0] <= script.TOLERANCE, precision
    assert curves["float64"][-1] < curves["float64"][0] - 0.3  # it did learn, so the curve says something
    if case == "linear":
        assert min(curves["gradient_norm"]) > 1  # it was clipped at every step
    log = (run.directory / "train.log").read_text()
    assert f"46 of 46 parameters start from {folder}" in log and "missing" not in log and "unexpected" not in log
    # config.yaml says the sizes of the folder, so that it can be given to --config again.
    model = yaml.safe_load((run.directory / "config.yaml").read_text())["model"]
    sizes = {name: value for name, value in script.RECIPES["tiny"].items() if name != "layer_norm_eps"}
    assert {name: model[name] for name in sizes} == sizes
