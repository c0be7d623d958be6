#!/usr/bin/env python3
"""Classification here and in transformers: python benchmarks/classification.py --reference PYTHON [--write]

From which of ten articles of a real Wikipedia dump is a paragraph? Both sides start from MiniLM cut to two layers with
one new head, and follow one recipe (batch 16, 64 tokens, AdamW, learning rate 3e-4 after a warmup over a tenth of the steps, linear
decay, clipping to norm 1, dropout 0.1); dropout and the order of samples are each side's own. `--reference` is a Python with torch
and transformers. `--write` puts the figures into their part of docs/classification.md. Ends with 1 where the
mean accuracy over the seeds differs by more than two points.
"""

import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.machine import entry, origin, page_parser  # noqa: E402  (the checkout is on the path now)

PAGE = ROOT / "docs" / "classification.md"
DUMP = ROOT.parent / "shared" / "data" / "wiki_dump" / "enwiki-sample-pages-articles.xml.bz2"
BEGIN, END = "<!-- written by benchmarks/classification.py -->", "<!-- up to here -->"
ARTICLES, PARAGRAPHS, HELD_OUT, LAYERS = 10, 60, 15, 2
SEEDS, EPOCHS, BATCH, LENGTH, RATE, POINTS = (1, 2, 3), 5, 16, 64, 3e-4, 2.0


def write_texts(folder):
    """Write paragraphs of the articles that have the most of them, as train.tsv and dev.tsv; returns their numbers."""
    from pipeloom.plugins.libraries.corpus.documents import DocumentReader, ReadingSettings
    from pipeloom.plugins.libraries.corpus.wikitext import paragraphs

    found = {}
    for page in DocumentReader(DUMP, ReadingSettings(), Counter()):
        texts = [text for text in paragraphs(page.text, page.aside) if len(text.split()) >= 20]
        found[page.title] = list(dict.fromkeys(texts))
    largest = sorted(found, key=lambda title: (-len(found[title]), title))[:ARTICLES]
    generator, rows = np.random.default_rng(0), {"train": [], "dev": []}
    for title in largest:
        texts = [found[title][number] for number in generator.permutation(len(found[title]))[:PARAGRAPHS]]
        rows["dev"] += [(text, title) for text in texts[:HELD_OUT]]
        rows["train"] += [(text, title) for text in texts[HELD_OUT:]]
    for name, content in rows.items():
        with open(folder / f"{name}.tsv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerows([("sentence", "label"), *content])
    return len(rows["train"]), len(rows["dev"])


def write_start(folder, seed):
    """Write the model that both sides start from."""
    from minilm import minilm
    from safetensors.numpy import load_file, save_file

    source, names = minilm(), sorted(row["label"] for row in read(folder, "dev"))
    labels = sorted(set(names))
    start = folder / f"start-{seed}"
    start.mkdir()
    config = json.loads((source / "config.json").read_text())
    config.update(num_hidden_layers=LAYERS, architectures=["BertForSequenceClassification"])
    config.update(id2label=dict(enumerate(labels)), label2id={label: number for number, label in enumerate(labels)})
    config["problem_type"] = "single_label_classification"
    (start / "config.json").write_text(json.dumps(config))
    for name in ("vocab.txt", "tokenizer_config.json"):
        (start / name).write_bytes((source / name).read_bytes())
    tensors = {
        f"bert.{name}": value
        for name, value in load_file(str(source / "model.safetensors")).items()
        if value.dtype == np.float32
        and not any(f"layer.{number}." in name for number in range(LAYERS, config["num_hidden_layers"] + 12))
    }
    head = np.random.default_rng(seed).standard_normal((len(labels), config["hidden_size"])) * 0.02
    tensors["classifier.weight"] = head.astype(np.float32)
    tensors["classifier.bias"] = np.zeros(len(labels), np.float32)
    save_file(tensors, str(start / "model.safetensors"), {"format": "pt"})
    return start


def read(folder, name):
    with open(folder / f"{name}.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def ours(folder, start, seed, steps):
    """Train; returns the accuracy in percent."""
    run = folder / f"run-{seed}"
    sizes = f"--seq_length {LENGTH} --seed {seed} --train_steps {steps} --train_global_batch_size {BATCH}"
    rates = f"--learning_rate {RATE} --warmup_steps {steps // 10} --lr_schedule linear --clip_grad_norm 1"
    decay = "--weight_decay 0.01 --hidden_dropout_prob 0.1 --attention_probs_dropout_prob 0.1"
    layout = "--nnodes 2 --nproc_per_node 1 --nums_split 2 --save_every 0"
    files = ["--train_file", folder / "train.tsv", "--dev_file", folder / "dev.tsv", "--init_from", start]
    plugins = ["--plugins", "inter_first,bert,classification", "--output_dir", run]
    entry(*plugins, *files, *f"{sizes} {rates} {decay} {layout}".split())
    return 100 * json.loads((run / "evaluation.jsonl").read_text().splitlines()[-1])["accuracy"]


def theirs(folder, start, seed, steps):
    """Train in transformers; prints the accuracy in percent. Runs under the Python of the reference."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(start, attn_implementation="eager").float()
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1
    tokenizer = AutoTokenizer.from_pretrained(start)
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for p in model.parameters() if all(p is not other for other in plain)]
    groups = [dict(params=decayed, weight_decay=0.01), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-6)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)

    def batch(rows):
        texts = [row["sentence"] for row in rows]
        inputs = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        return inputs, torch.tensor([model.config.label2id[row["label"]] for row in rows])

    rows, order, generator = read(folder, "train"), [], np.random.default_rng(seed)
    model.train()
    for _ in range(steps):
        while len(order) < BATCH:
            order += generator.permutation(len(rows)).tolist()
        inputs, labels = batch([rows[number] for number in order[:BATCH]])
        order = order[BATCH:]
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    inputs, labels = batch(read(folder, "dev"))
    with torch.no_grad():
        right = (model(**inputs).logits.argmax(1) == labels).float().mean().item()
    print(100 * right)


def main():
    if sys.argv[1:2] == ["theirs"]:
        folder, start, seed, steps = sys.argv[2:]
        return theirs(Path(folder), start, int(seed), int(steps))
    parser = page_parser(__doc__, PAGE)
    parser.add_argument("--reference", metavar="PYTHON", required=True, help="a Python with torch and transformers")
    options = parser.parse_args()
    began, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="pipeloom-classification-") as name:
        folder = Path(name)
        train, dev = write_texts(folder)
        steps = EPOCHS * train // BATCH
        for seed in SEEDS:
            start = write_start(folder, seed)
            command = [options.reference, __file__, "theirs", str(folder), str(start), str(seed), str(steps)]
            other = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
            rows.append((ours(folder, start, seed, steps), float(other)))
            print(seed, *rows[-1], flush=True)
    means = np.mean(rows, axis=0)
    table = "\n".join(f"| {seed} | {a:.1f} | {b:.1f} |" for seed, (a, b) in zip(SEEDS, rows))
    text = f"""{origin("python benchmarks/classification.py --reference PYTHON --write", time.monotonic() - began)}

From which of ten articles of the Wikipedia dump a paragraph is: {train} paragraphs to train on, {dev} to answer; MiniLM cut to
{LAYERS} layers, {steps} steps of {BATCH}; ours in two pipeline stages. Accuracy in percent:

| seed | pipeloom | transformers |
|---:|---:|---:|
{table}
| mean | {means[0]:.1f} | {means[1]:.1f} |"""
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        part = f"{BEGIN}\n{text}\n{END}"
        PAGE.write_text(re.sub(rf"{BEGIN}.*?{END}", lambda _: part, page, flags=re.S), encoding="utf-8")
    return int(abs(means[0] - means[1]) > POINTS)


if __name__ == "__main__":
    sys.exit(main())
