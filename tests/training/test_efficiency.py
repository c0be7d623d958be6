"""MFU, bubble and goodput: from a plan and from clocks that the tests hold."""

from __future__ import annotations

import json

import pytest

from pipeloom.core.base.gpu_peaks import gpu_peak
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.executor import Peak
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training import efficiency
from pipeloom.core.training.efficiency import Efficiency, RunSummary, TimeBook, bubble_of

LAYOUT = "--nnodes 1 --nproc_per_node 4 --nums_split 4 --num_hidden_layers 4 --hidden_size 64 --num_attention_heads 2"


def plan_of(*flags):
    config, plugins = parse(["--plugins", "inter_first,by_flops,bert,wiki_ofrecord", *LAYOUT.split(), *flags])
    return make_plan(config, plugins)


def test_mfu_is_the_models_flops_over_the_devices_peak():
    plan = plan_of()
    found = Efficiency.of(plan, Peak(1e9, "a test"))
    # Palm's formula for the encoder: 6 N + 12 L H Q T a token, and what the heads compute for their own positions.
    tokens = plan.config.seq_length
    layers = 4 * 12 * 64 * 64
    encoder = 6 * layers + 12 * 4 * 64 * tokens
    predicted = plan.config.max_predictions * 6 * (plan.config.vocab_size * 64 + 64 * 64)
    next_sentence = 6 * (64 * 64 + 64 * 2)
    assert found.flops_per_sample == pytest.approx(encoder * tokens + predicted + next_sentence, rel=0.02)
    assert found.mfu(10.0) == pytest.approx(10 * found.flops_per_sample / 4e9)
    assert set(found.metrics(10.0)) == {"mfu", "bubble", "bytes_sent"}
    assert set(Efficiency.of(plan, None).metrics(10.0)) == {"bubble", "bytes_sent"}
    assert found.bytes_sent == sum(plan.traffic().sums().values()) > 0


def test_the_bubble_of_equal_stages_is_the_formula_and_of_unequal_ones_more():
    four, eight = (bubble_of(plan_of("--grad_acc_steps", str(count))) for count in (4, 8))
    assert 3 / 7 < four and 3 / 11 < eight < four  # embeddings and heads make the stages unequal
    assert bubble_of(plan_of("--nums_split", "1")) == 0


def test_goodput_is_what_is_not_lost(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(efficiency.time, "time", lambda: now[0])
    book = TimeBook(100.0)
    book.on_phase("checkpoint", 0, 10**9)  # before the first step: a part of the start
    now[0] = 110.0
    book.start_over()
    now[0] = 150.0
    book.on_phase("evaluation", 0, 3 * 10**9)
    book.on_phase("data", 0, 10**9)
    book.lose("steps left out", 2.0)
    assert dict(book.lost) == {"start": 10.0, "evaluation": 3.0, "steps left out": 2.0}
    assert book.goodput == pytest.approx(35 / 50)


def test_the_summary_has_the_median_speed_and_says_where_the_time_went(monkeypatch, tmp_path):
    now = [20.0]
    monkeypatch.setattr(efficiency.time, "time", lambda: now[0])
    book = TimeBook(0.0)
    book.start_over()
    now[0] = 100.0
    summary = RunSummary(Efficiency(2e6, 0.25, 1e6, Peak(1e9, "a test"), 2), book, 128)
    for speed in (0.0, 90.0, 100.0, 500.0):
        summary.note({"samples_per_second": speed})
    assert summary.lines(7) == [
        "time       100.0 s: steps 80%, start 20%",
        "speed      100.0 samples/s, 12800 tokens/s, MFU 10% of 1 GFLOP/s a rank (a test)",
    ]
    summary.write(tmp_path, 7)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["steps"] == 7 and found["mfu"] == pytest.approx(0.1) and found["lost_seconds"] == {"start": 20.0}


@pytest.mark.parametrize(
    "name, peaks",
    [
        ("Tesla T4", (8.1e12, 65e12)),
        ("NVIDIA A100-SXM4-40GB", (19.5e12, 312e12)),
        ("NVIDIA A10", (31.2e12, 125e12)),
        ("Tesla V100-PCIE-16GB", (14e12, 112e12)),
        ("Tesla V100-SXM2-16GB", (15.7e12, 125e12)),
        ("Tesla M40 24GB", (7e12, 7e12)),
        ("NVIDIA GeForce RTX 3090", (35.6e12, 71e12)),
        ("NVIDIA A1000", (None, None)),
    ],
)
def test_peaks_of_gpus_go_by_the_drivers_name(name, peaks):
    assert (gpu_peak(name, False), gpu_peak(name, True)) == peaks
