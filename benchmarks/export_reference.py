#!/usr/bin/env python3
"""What `entry.py export` writes, loaded by HuggingFace transformers: are its outputs those of pipeloom?

`ours` exports a checkpoint that answers questions, and one of BERT that it pre-trains for a few steps in two stages; it
stores what pipeloom makes of samples with them. `compare` loads both folders by transformers and holds the outputs
against each other: the logits of starts and ends, the last hidden states, the losses of masked words and of next
sentences, and the tokens of questions and contexts. Ends with 1 where they differ by more than 1e-4, or a tensor is
missing or left over.

Two environments take part, since OneFlow 0.9.0 and a recent PyTorch want different Pythons:

  python3.11 -m venv ref && ref/bin/pip install torch==2.13.0 transformers safetensors numpy
  .venv/bin/python benchmarks/export_reference.py ours --folder /tmp/export --checkpoint runs/squad --dev .../dev-sample.json
  ref/bin/python benchmarks/export_reference.py compare --folder /tmp/export

Nothing of pipeloom is imported where transformers runs.
"""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.machine import entry  # noqa: E402  (the checkout is on the path now)
from benchmarks.squad_reference import DATA, INPUTS  # noqa: E402

TOLERANCE, QUESTIONS, RECORDS, STEPS = 1e-4, 32, 64, 30
SEQ_LENGTH, MAX_PREDICTIONS, MAX_QUERY_LENGTH = 128, 20, 64


def ours(options):
    options.folder.mkdir(parents=True)
    answers(options.folder, options.checkpoint, options.dev)
    pretrained(options.folder)


def answers(folder, checkpoint, dev):
    """The export of ``checkpoint``, and its logits for the first windows of ``dev``."""
    from pipeloom.plugins.libraries.huggingface.predicting import predict
    from pipeloom.plugins.libraries.questions.articles import LeftOut, read_articles
    from pipeloom.plugins.libraries.questions.features import FeatureSettings, make_features
    from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

    entry("export", "--checkpoint", checkpoint, "--output", folder / "answers")
    questions = read_articles(dev, False).questions[:QUESTIONS]
    tokenizer = WordPieceTokenizer.load(folder / "answers" / "vocab.txt", True)
    features = make_features(
        questions, tokenizer, FeatureSettings(SEQ_LENGTH * 2, SEQ_LENGTH, MAX_QUERY_LENGTH), False, LeftOut()
    )
    samples = [features.inputs(index) for index in range(len(features))]
    fields = {name: np.stack([sample[name] for sample in samples]) for name in INPUTS}
    np.savez(folder / "answers.npz", **fields, **predict(str(checkpoint), "question_answering", fields))
    (folder / "answers.json").write_text(json.dumps([[question.text, question.context] for question in questions]))


def pretrained(folder):
    """A small BERT of the embedded sample, pre-trained in two stages; its losses and hidden states on held-out
    records.
    """
    import hidden_states

    from pipeloom.plugins.datasets import wiki_ofrecord
    from pipeloom.plugins.libraries.huggingface.predicting import predict

    job = ("--plugins", "inter_first,bert,wiki_ofrecord", "--nproc_per_node", "1", "--train_global_batch_size", "16")
    two = ("--nnodes", "2", "--nums_split", "2", "--grad_acc_steps", "2")
    entry(*job, *two, "--train_steps", STEPS, "--warmup_steps", "3", "--output_dir", folder / "run")
    entry("export", "--checkpoint", folder / "run", "--output", folder / "pretrained")
    # The learning rate of the first step is 0 with a warmup: the evaluation after it sees the weights of the folder.
    entry(
        *job,
        "--nnodes",
        "1",
        "--nums_split",
        "1",
        "--init_from",
        folder / "pretrained",
        "--train_steps",
        "1",
        "--warmup_steps",
        "1",
        "--eval_every",
        "1",
        "--eval_samples",
        RECORDS,
        "--save_every",
        "0",
        "--output_dir",
        folder / "evaluated",
    )
    losses = json.loads((folder / "evaluated" / "evaluation.jsonl").read_text())
    vocab_size = json.loads((folder / "pretrained" / "config.json").read_text())["vocab_size"]
    records = wiki_ofrecord.pipeloom_open_dataset(
        SimpleNamespace(
            seq_length=SEQ_LENGTH,
            max_predictions=MAX_PREDICTIONS,
            eval_path=None,
            ofrecord_path=None,
            vocab_size=vocab_size,
            eval_every=1,
        ),
        "eval",
    )
    fields = records.read(range(RECORDS), list(records.fields))
    hidden = predict(
        str(folder / "pretrained"),
        hidden_states.TASK,
        {name: fields[name] for name in INPUTS},
        plugins=[hidden_states.__file__],
    )
    np.savez(folder / "pretrained.npz", **fields, **hidden, **{name: losses[name] for name in ("mlm_loss", "nsp_loss")})


def compare(options):
    """Exit code 0 where all agree; leaves ``result.json``."""
    from transformers import AutoTokenizer, BertForPreTraining, BertForQuestionAnswering

    folder, differences = options.folder, {}
    model, stored = loaded(BertForQuestionAnswering, folder / "answers"), dict(np.load(folder / "answers.npz"))
    output = model(**tensors(stored))
    differences["answers: logits of starts and ends"] = max(
        largest(output[name], stored[name]) for name in ("start_logits", "end_logits")
    )
    same_tokens(
        AutoTokenizer.from_pretrained(folder / "answers"), json.loads((folder / "answers.json").read_text()), stored
    )

    model, stored = loaded(BertForPreTraining, folder / "pretrained"), dict(np.load(folder / "pretrained.npz"))
    output = model(**tensors(stored), output_hidden_states=True)
    differences["pre-training: last hidden states"] = largest(output.hidden_states[-1], stored["hidden_states"])
    theirs = losses(output, stored)
    for name, value in theirs.items():
        differences[f"pre-training: {name} of {RECORDS} records"] = abs(value - float(stored[name]))
    for name, value in differences.items():
        print(f"{name}: {value:.1e}")
    (folder / "result.json").write_text(json.dumps(differences) + "\n")
    return int(max(differences.values()) > TOLERANCE)


def loaded(kind, folder):
    """The model in evaluation mode; ends the script where the folder does not hold just its tensors."""
    import torch

    torch.set_grad_enabled(False)
    model, found = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    wrong = {what: sorted(names) for what, names in found.items() if names}
    if wrong:
        sys.exit(f"{folder}: {wrong}")
    return model.float().eval()


def tensors(stored):
    import torch

    return {name: torch.tensor(stored[field]).long() for field, name in INPUTS.items()}


def losses(output, stored):
    """Means over the masked words, and over the records, in float64."""
    mlm, nsp = (np.asarray(logits, np.float64) for logits in (output.prediction_logits, output.seq_relationship_logits))
    rows = np.arange(len(mlm))
    words = -log_softmax(mlm[rows[:, None], stored["masked_lm_positions"]])
    words = np.take_along_axis(words, stored["masked_lm_ids"][..., None], axis=-1)[..., 0]
    return {
        "mlm_loss": float((words * stored["masked_lm_weights"]).sum() / stored["masked_lm_weights"].sum()),
        "nsp_loss": float(-log_softmax(nsp)[rows, stored["next_sentence_labels"][:, 0]].mean()),
    }


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def largest(theirs, mine):
    return float(np.abs(theirs.numpy() - mine).max())


def same_tokens(tokenizer, texts, stored):
    """The exported tokenizer makes of each question and context what the model was fed, where one window holds both."""
    known, length = (
        {tuple(row[:n]) for row, n in zip(stored["input_ids"].tolist(), stored["input_mask"].sum(1))},
        stored["input_ids"].shape[1],
    )
    checked = 0
    for question, context in texts:
        ids = tokenizer(question, context)["input_ids"]
        if len(ids) <= length:
            checked += 1
            if tuple(ids) not in known:
                sys.exit(f"the exported tokenizer reads {question!r} otherwise than pipeloom")
    print(f"tokens of {checked} questions with their contexts: the same")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("ours", "compare"))
    parser.add_argument("--folder", type=Path, required=True, help="where the two sides meet; ours makes it")
    parser.add_argument("--checkpoint", help="ours: a checkpoint or run directory of a model that answers questions")
    parser.add_argument("--dev", type=Path, default=DATA / "dev-sample.json", help="ours: its questions")
    options = parser.parse_args()
    return {"ours": ours, "compare": compare}[options.command](options) or 0


if __name__ == "__main__":
    sys.exit(main())
