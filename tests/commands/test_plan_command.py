"""``plan``: what it says of a job, for this machine or another cluster, without the engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeloom.core.commands.cli import main

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "examples" / "clusters"
JOB = ["--plugins", "inter_first,bert,wiki_ofrecord", "--num_hidden_layers", "24", "--num_attention_heads", "16"]
M40 = ["--cluster", str(CLUSTERS / "m40-1g.yaml")]


def said(capsys, *arguments):
    code = main(["plan", *arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def content(capsys, *arguments):
    return json.loads(said(capsys, *arguments, "--json"))


def refused(capsys, *arguments):
    assert main(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


def test_a_plan_for_a_cluster_that_is_not_here(capsys):
    text = said(capsys, *JOB, *M40, "--grad_acc_steps", "16")
    assert "mesh       pipeline 2 x data 2 on 2 nodes x 2 CUDA devices" in text
    assert "machines   2 x 2 Tesla M40, 1 Gbit/s Ethernet: Tesla M40, 7 TFLOP/s each, 24 GB" in text
    assert (
        "it keeps the activations of 4 micro-batches whose backward pass is still to come, stage 1 those of 1" in text
    )
    assert "fits       yes" in text and "seconds of the busiest stage: products" in text


def test_the_terms_of_a_step_sum_up_to_it(capsys):
    for more in ([], ["--recompute", "full"], ["--shard", "parameters"], ["--nums_split", "4"], ["--nums_split", "1"],
                 ["--grad_acc_steps", "1"], ["--tensor_parallel", "2"], ["--tied_transfer", "table"],
                 ["--tied_transfer", "vectors"], ["--shard", "vocabulary"]):  # fmt: skip
        found = content(capsys, *JOB, *M40, *more)
        step = found["step"]
        assert sum(step["terms"].values()) == pytest.approx(step["seconds"], rel=1e-6), more
        assert all(seconds >= 0 for seconds in step["terms"].values()), (more, step["terms"])
        assert step["samples_per_second"] == pytest.approx(256 / step["seconds"])


def test_the_content_tells_every_stage_rank_and_link(capsys):
    found = content(capsys, *JOB, *M40, "--grad_acc_steps", "8")
    assert found["placement"]["grid"] == [[0, 0], [1, 1]] and [row["stage"] for row in found["stages"]] == [0, 1]
    assert sum(row["count"] for row in found["stages"]) == 26 == found["model"]["blocks"]
    assert found["traffic"]["links"]["0->1"] == pytest.approx(found["traffic"]["links"]["1->0"])
    spans = found["timeline"]
    assert {(span[0], span[1]) for span in spans} == {(s, w) for s in (0, 1) for w in ("forward", "backward", "after")}
    assert len(spans) == 2 * (8 + 8 + 1)
    for stage in (0, 1):  # what a stage does, it does one after the other
        mine = sorted((span[3], span[4]) for span in spans if span[0] == stage)
        assert all(end <= begin + 1e-9 for (_, end), (begin, _) in zip(mine, mine[1:]))
    first, last = found["stages"][0]["memory"], found["stages"][1]["memory"]
    assert first["total"] == pytest.approx(sum(first["parts"].values())) and first["total"] > last["total"]


def test_what_does_not_fit_is_said_with_changes_that_do_and_their_price(capsys):
    large = ["--plugins", "inter_first,gpt2,text", "--num_hidden_layers", "48", "--num_attention_heads", "32"]
    text = said(capsys, *large, "--cluster", str(CLUSTERS / "t4.yaml"))
    assert "fits       no: " in text and "what would fit:" in text
    changes = [line.strip() for line in text.splitlines() if line.strip().startswith("--")]
    assert 1 <= len(changes) <= 3 and all("s a step (" in line for line in changes)
    flags = changes[0].partition(":")[0].split()
    assert "fits       yes" in said(capsys, *large, *flags, "--cluster", str(CLUSTERS / "t4.yaml"))


def test_a_search_ranks_layouts_and_its_flags_make_the_best(capsys):
    found = content(capsys, *JOB, *M40, "--search", "--top", "4")
    search = found["search"]
    seconds = [row["seconds"] for row in search["best"]]
    assert len(seconds) == 4 and seconds == sorted(seconds) and search["candidates"] > 100
    assert len({row["kind"] for row in search["kinds"]}) == len(search["kinds"]) >= 4
    assert found["step"]["seconds"] == pytest.approx(seconds[0], rel=1e-6)
    best = search["best"][0]
    assert best["order"] == "inter_first"  # over an ordinary network, as the original project found
    flags = best["flags"].replace(",...", ",by_time,bert,wiki_ofrecord").split()
    again = content(capsys, *JOB[2:], *flags, *M40)
    assert again["step"]["seconds"] == pytest.approx(seconds[0], rel=0.02)
    text = said(capsys, *JOB, *M40, "--search")
    assert "why it loses" in text and "gradients 1" in text and "take it by" in text


def test_what_the_user_gives_stays_in_a_search(capsys):
    search = content(capsys, *JOB, *M40, "--search", "--nums_split", "4", "--grad_acc_steps", "8")["search"]
    assert all(row["mesh"] == [4, 1, 1] and row["options"]["grad_acc_steps"] == 8 for row in search["best"])


def test_two_configurations_are_compared(capsys, tmp_path):
    for name, stages in (("a", 2), ("b", 4)):
        (tmp_path / f"{name}.yaml").write_text(f"parallel: {{nums_split: {stages}, grad_acc_steps: 16}}\n")
    text = said(capsys, *JOB, *M40, "--compare", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert "pipeline 2 x data 2" in text and "pipeline 4 x data 1" in text
    assert f"the quickest for a sample that fits: {tmp_path}" in text
    assert "leave --config out" in refused(capsys, *JOB, "--compare", "a.yaml", "--config", "b.yaml")


def test_when_a_strategy_wins_is_an_inequality_and_a_bandwidth(capsys):
    found = content(capsys, *JOB, *M40, "--explain", "intra_first", "inter_first")
    assert found["winner"] == "inter_first"
    intra, inter = (found["strategies"][name] for name in ("intra_first", "inter_first"))
    assert intra["leaving_a_node"]["gradients"] > 5 * sum(inter["leaving_a_node"].values())
    for one in (intra, inter):
        at = one["fixed_seconds"] + one["bytes_that_are_waited_for"] / found["bandwidth"]
        assert at == pytest.approx(one["seconds"], rel=1e-6)
    text = said(capsys, *JOB, *M40, "--explain", "intra_first", "inter_first")
    assert "intra_first wins where" in text and "MB / w" in text and "here inter_first wins" in text
    assert "is no strategy" in refused(capsys, *JOB, "--explain", "inter_first", "by_flops")
    assert "two different" in refused(capsys, *JOB, "--explain", "inter_first", "inter_first")
    # Where gradients are few and hidden states are many, the two meet.
    other = ["--plugins", "inter_first,bert,wiki_ofrecord", "--num_hidden_layers", "2", "--num_attention_heads", "2"]
    other += ["--vocab_size", "4096", "--tie_embeddings", "false", "--train_global_batch_size", "4096"]
    meeting = content(capsys, *other, *M40, "--explain", "intra_first", "inter_first")
    assert meeting["winner"] == "intra_first"


def test_what_if_says_what_the_engine_cannot_run(capsys):
    rows = content(capsys, *JOB, *M40, "--what-if")["what_if"]
    by_name = {row["what"]: row for row in rows}
    zero = by_name["zero bubble (weights' gradients wait)"]
    assert zero["seconds"] < by_name["as it is"]["seconds"] and zero["note"] == "the engine cannot run it"
    assert any("interleaved" in name for name in by_name) and any("Gbit/s" in name for name in by_name)
    assert by_name["100 Gbit/s between nodes"]["seconds"] < by_name["as it is"]["seconds"]
    assert by_name["twice the nodes, twice the batch"]["samples"] == 512


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--cluster", "no.yaml"], "--cluster no.yaml: No such file"),
        (["--top", "0"], "--top and --measure are 1 or more"),
        (["--measure", "3"], "give --search too"),
        (["--serach"], "no option '--serach'"),
        (["--html", str(ROOT)], "this is a folder"),
        (["--nums_split", "3"], "--nums_split 3 does not divide"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, line):
    assert line in refused(capsys, *JOB, *arguments)


def test_a_plan_does_not_start_the_engine():
    code = (
        "import sys; from pipeloom.__main__ import run; code = run(); print('oneflow' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", *JOB, *M40], stdout=subprocess.PIPE, text=True, cwd=str(ROOT)
    )
    assert done.returncode == 0 and done.stdout.endswith("False\n")


def test_page_and_picture(capsys, tmp_path):
    page, picture = tmp_path / "plan.html", tmp_path / "plan.png"
    said(capsys, *JOB, *M40, "--search", "--html", str(page), "--png", str(picture))
    text = page.read_text()
    assert text.count('class="rank"') == 4 and 'data-rank="3" data-stage="1"' in text
    assert "http" not in text.replace("http-equiv", "") and "<script src" not in text and "Alternatives" in text
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_shows_every_stage_and_rank(capsys, tmp_path):
    page = tmp_path / "plan.html"
    said(capsys, *JOB, *M40, "--nums_split", "4", "--search", "--html", str(page))
    script = (
        "<script>addEventListener('load',()=>{const boxes=[...document.querySelectorAll('.rank rect,.span rect')]"
        ".filter(box=>box.getBoundingClientRect().width>0);"
        "const ranks=document.querySelectorAll('.rank').length;"
        "document.querySelector('table:last-of-type th:nth-child(2) button').click();"
        "document.title=[ranks,boxes.length,document.body.scrollWidth<=innerWidth].join(' ')})</script>"
    )
    page.write_text(page.read_text().replace("</body>", script + "</body>"))
    for width in (1100, 390):
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
        done = subprocess.run(
            [*command, f"file://{page}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        title = done.stdout.partition("<title>")[2].partition("</title>")[0]
        ranks, boxes, narrow = title.split()
        assert int(ranks) == 4 and int(boxes) > 4 * 4 and narrow == "true", (width, title)
