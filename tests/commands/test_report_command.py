"""``report``: predicted beside measured figures of a run, and the page with its curves."""

from __future__ import annotations

import json

import pytest

from pipeloom.core.commands.cli import main, parse


@pytest.fixture
def run(tmp_path):
    """The folder of a run of four ranks that took half a second a step."""
    config, _ = parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--num_hidden_layers", "2"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    lines = [
        {
            "step": step,
            "loss": 9.0 / step,
            "lr": 1e-4,
            "grad_norm": 1.0,
            "samples_per_second": 64.0 if step > 1 else 0.0,
        }
        for step in range(1, 21)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in [*lines, {"step": 20, "eval_loss": 1.0}])
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 21, "lo')
    (tmp_path / "summary.json").write_text(json.dumps({"mfu": 0.25, "bubble": 0.1}))
    return tmp_path


def test_figures_of_a_run_beside_what_was_predicted(run, capsys):
    assert main(["report", str(run), "--json"]) == 0
    figures = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
    assert figures["seconds a step"]["measured"] == pytest.approx(0.5)
    assert figures["tokens a second"]["measured"] == pytest.approx(64 * 128)
    assert figures["MFU"]["measured"] == 0.25 and figures["waiting for other stages"]["measured"] == 0.1
    assert all(row["predicted"] >= 0 for row in figures.values()) and figures["seconds a step"]["predicted"] > 0
    assert main(["report", str(run), "--html", str(run / "page.html")]) == 0
    assert "0.5 measured" in capsys.readouterr().out
    page = (run / "page.html").read_text()
    assert "Predicted and measured" in page and page.count('class="curve"') == 4 and page.count('class="rank"') == 4


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "has no config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("plugins: inter_first,bert,wiki_ofrecord\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "the run has logged no step yet" in capsys.readouterr().err
