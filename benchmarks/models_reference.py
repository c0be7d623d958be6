#!/usr/bin/env python3
"""GPT-2 and RoBERTa by transformers and by pipeloom: the same logits, and the same losses in training.

  python3.11 -m venv ref && ref/bin/pip install torch==2.13.0 transformers safetensors numpy
  python benchmarks/models_reference.py --reference ref/bin/python [--pretrained checkpoint_vh.pt] [--write]

Of each model a small random folder is the start of both sides, which see the same samples of the embedded text in the
same order (RoBERTa's masked, and half of those compared filled up with padding) and follow one recipe without dropout:
AdamW (0.9, 0.999, eps 1e-6, decay 0.01 but not on biases and LayerNorms), warmup over a tenth of the steps, linear
decay to 0, gradients clipped to norm 1. Then transformers loads what pipeloom exports.

`--pretrained` is a trained RoBERTa that a package carries: models/v1/checkpoint_vh.pt of `pip download sapiens==1.0.3`
(Prihoda et al. 2022), which knows antibodies: its "words" are amino acids. Of it the logits are compared, where
residues of four antibodies are masked.

`--write` puts the figures into their part of docs/huggingface.md. Ends with 1 where logits or losses differ by more
than 1e-4, or a tensor or a token is another one.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import entry, origin, page_parser  # noqa: E402  (the checkout is on the path now)
from benchmarks.transformers_side import MODELS, SIDE  # noqa: E402

PAGE = ROOT / "docs" / "huggingface.md"
BEGIN, END = "<!-- written by benchmarks/models_reference.py -->", "<!-- up to here -->"
TOLERANCE, STEPS, BATCH, SEQ_LENGTH, SEED, RATE = 1e-4, 20, 8, 64, 1, 1e-3
#: Samples whose logits are compared; of RoBERTa's the last half is filled up with padding from here on.
COMPARED, SHORT = 16, 24
ONE, TWO = "--nnodes 1 --nproc_per_node 1", "--nnodes 2 --nproc_per_node 1 --nums_split 2 --grad_acc_steps 2"
RECIPE = (
    f"--seq_length {SEQ_LENGTH} --seed {SEED} --train_global_batch_size {BATCH} --train_steps {STEPS} --log_every 1 "
    f"--learning_rate {RATE} --warmup_steps {STEPS // 10} --lr_schedule linear --clip_grad_norm 1 --weight_decay 0.01 "
    "--adam_eps 1e-6 --hidden_dropout_prob 0 --attention_probs_dropout_prob 0"
)
#: The trained RoBERTa's words, and heavy chains that are public: trastuzumab, adalimumab, pertuzumab, ipilimumab.
AMINO_ACIDS, FIRST_ACID = "ACDEFGHIKLMNPQRSTVWY", 4
ANTIBODIES = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSR"
    "WGGDGFYAMDYWGQGTLVTVSS",
    "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYCAK"
    "VSYLSTASSLDYWGQGTLVTVSS",
    "EVQLVESGGGLVQPGGSLRLSCAASGFTFTDYTMDWVRQAPGKGLEWVADVNPNSGGSIYNQRFKGRFTLSVDRSKNTLYLQMNSLRAEDTAVYYCAR"
    "NLGPSFYFDYWGQGTLVTVSS",
    "QVQLVESGGGVVQPGRSLRLSCAASGFTFSSYTMHWVRQAPGKGLEWVTFISYDGNNKYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAIYYCAR"
    "TGWLGPFDYWGQGTLVTVSS",
)
#: What both sides read of a sample, by dataset.
FIELDS = {
    "wiki_text": ("input_ids", "input_mask", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights"),
    "text": ("input_ids", "next_ids", "next_weights"),
}


def write_samples(plugins, folder):
    """Write the batches of training, the inputs whose logits are compared, and the tokenizer."""
    from pipeloom.core.commands.cli import parse
    from pipeloom.core.data.order import SampleOrder

    job = f"--seq_length {SEQ_LENGTH} --seed {SEED} --train_global_batch_size {BATCH}"
    config, manager = parse(["--plugins", plugins, *job.split()])
    names = FIELDS[plugins.split(",")[-1]]
    data = manager.hook.pipeloom_open_dataset(config=config, split="train")
    order = SampleOrder(len(data), BATCH, SEED, shuffle=True)
    parts = [data.read_epochs(order.indices(step), order.epochs(step), names) for step in range(STEPS)]
    np.savez(folder / "train.npz", **{name: np.concatenate([part[name] for part in parts]) for name in names})
    words, compared = data.vocabulary.load(), data.read(range(COMPARED), names)
    if "input_mask" in compared:
        half = slice(COMPARED // 2, None)
        compared["input_ids"][half, SHORT:], compared["input_mask"][half, SHORT:] = words.pad_id, 0
        compared["masked_lm_positions"] %= SHORT
    np.savez(folder / "compared.npz", **compared)
    files = data.vocabulary.files()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    facts = {"vocab_size": data.vocab_size, "pad_token_id": words.pad_id, "tokenizer": sorted(files)}
    facts.update(seq_length=SEQ_LENGTH, steps=STEPS, batch=BATCH, rate=RATE, seed=SEED)
    (folder / "facts.json").write_text(json.dumps(facts) + "\n")


def masked_logits(checkpoint, folder):
    """Compute RoBERTa's logits at the masked positions: ``(samples, predictions, vocabulary)``."""
    from pipeloom.plugins.libraries.huggingface.predicting import predict

    fields = dict(np.load(folder / "compared.npz"))
    fields["segment_ids"] = np.zeros_like(fields["input_ids"])
    inputs = {name: fields[name] for name in ("input_ids", "input_mask", "segment_ids", "masked_lm_positions")}
    settings = {"max_predictions": fields["masked_lm_positions"].shape[1]}
    return predict(str(checkpoint), "masked_lm", inputs, plugins=["wiki_text"], settings=settings)["masked_lm_logits"]


def next_logits(checkpoint, folder):
    """Compute GPT-2's logits at all positions, token by token with the cache: ``(samples, tokens, vocabulary)``."""
    from pipeloom.core.contract.options import UNSET
    from pipeloom.core.contract.placement import Placement
    from pipeloom.core.contract.topology import Cluster, Mesh
    from pipeloom.core.planning.planner import Layout
    from pipeloom.plugins.libraries.generation.worker import LaidOutModel
    from pipeloom.plugins.libraries.huggingface.opened_model import OpenedModel, load_plugins
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained

    ids = np.load(folder / "compared.npz")["input_ids"].astype(np.int32)
    source, cluster = open_pretrained(str(checkpoint), "--checkpoint", needs_settings=False), Cluster(1, 1, "cpu")
    manager = load_plugins(source, ())
    alone = {one.name: one.single_process for one in manager.options() if one.single_process is not UNSET}
    alone.update(device="cpu", node_rank=None, interface=None)
    opened = OpenedModel.open(source, manager, "causal_lm", ("input_ids",), ("alone", alone), seq_length=SEQ_LENGTH)
    layout = Layout(Mesh(1, 1), (len(opened.model.blocks),), Placement.of(cluster, [[0]]))
    decoder = LaidOutModel(opened, cluster, layout).build(0).decoder()
    found = []
    for position in range(ids.shape[1]):
        fields = {"input_ids": ids[:, position : position + 1]}
        where = np.full((len(ids), 1), position, np.int32)
        found.append(decoder.step(fields, where, np.ones((len(ids), 1, position + 1), bool)))
    return np.stack(found, axis=1)


LOGITS = {"roberta": masked_logits, "gpt2": next_logits}
PLUGINS = {"roberta": "intra_first,roberta,wiki_text", "gpt2": "inter_first,gpt2,text"}


def ask(python, command, model, folder):
    """Run a command of the other side and return what it found."""
    done = subprocess.run([python, str(SIDE), command, model, str(folder)], stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def compare(model, folder, python):
    """Return what was compared with the largest difference of each, and what else is wrong."""

    write_samples(PLUGINS[model], folder)
    ask(python, "train", model, folder)
    theirs, differences = np.load(folder / "theirs.npz"), {}
    for what, layout in (("one process", ONE), ("two stages", TWO)):
        run = folder / what.replace(" ", "_")
        start = ("--init_from", folder / "start", "--vocab", folder, "--output_dir", run)
        entry("--plugins", PLUGINS[model], *start, *RECIPE.split(), *layout.split())
        losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        differences[f"{STEPS} losses of training, {what}"] = np.abs(np.array(losses) - theirs["losses"]).max()
    entry("export", "--checkpoint", run, "--output", folder / "exported")
    # One process each: an engine that has run once has its ranks for good.
    ours = {what: in_own_process(model, folder, path) for what, path in (("start", folder / "start"), ("trained", run))}
    np.save(folder / "ours.npy", ours["trained"])
    differences["logits of the folder that both start from"] = np.abs(ours["start"] - theirs["start"]).max()
    differences["logits of the trained models"] = np.abs(ours["trained"] - theirs["trained"]).max()
    loaded = ask(python, "load", model, folder)
    differences["logits of what is exported, loaded by transformers"] = loaded["difference"]
    return differences, loaded["wrong"]


def compare_pretrained(folder, checkpoint, python):
    """Compare the logits of a trained RoBERTa, and those of its export; return also the share of right guesses."""
    longest = max(map(len, ANTIBODIES)) + 2
    ids = np.full((len(ANTIBODIES), longest), 1, np.int32)  # <s> 0, <pad> 1, </s> 2, <unk> 3, the acids, <mask>
    for row, antibody in enumerate(ANTIBODIES):
        ids[row, : len(antibody) + 2] = [0, *(FIRST_ACID + AMINO_ACIDS.index(acid) for acid in antibody), 2]
    positions = np.tile(np.arange(3, min(map(len, ANTIBODIES)), 6, dtype=np.int32), (len(ids), 1))
    hidden = np.take_along_axis(ids, positions, axis=1)
    fields = {"input_mask": (ids != 1).astype(np.int32), "masked_lm_positions": positions, "masked_lm_ids": hidden}
    np.put_along_axis(ids, positions, FIRST_ACID + len(AMINO_ACIDS), axis=1)
    np.savez(folder / "compared.npz", input_ids=ids, **fields)
    (folder / "facts.json").write_text(json.dumps({"words": AMINO_ACIDS}))
    (folder / "fairseq.pt").write_bytes(Path(checkpoint).read_bytes())
    right = ask(python, "convert", "roberta", folder)["right"]
    entry("export", "--checkpoint", folder / "start", "--output", folder / "exported")
    ours = in_own_process("roberta", folder, folder / "start")
    np.save(folder / "ours.npy", ours)
    loaded = ask(python, "load", "roberta", folder)
    ours_right = (ours.argmax(-1) == hidden).mean()
    differences = [np.abs(ours - np.load(folder / "theirs.npz")["start"]).max(), loaded["difference"]]
    fact = (
        f"A trained RoBERTa (antibodies; sapiens 1.0.3): logits of {positions.size} masked residues to "
        f"{differences[0]:.1e}, of its export in transformers to {differences[1]:.1e}; right at "
        f"{100 * ours_right:.0f} % of them, transformers at {100 * right:.0f} %."
    )
    return fact, differences, loaded["wrong"]


def in_own_process(model, folder, path):
    """Return our logits of ``path``."""
    output = folder / "logits.npy"
    subprocess.run([sys.executable, __file__, "--logits", model, str(folder), str(path), str(output)], check=True)
    return np.load(output)


def main():
    from pipeloom.core.host.builtin import use_builtin
    from pipeloom.plugins import TABLE

    use_builtin(TABLE)
    parser = page_parser(__doc__, PAGE)
    parser.add_argument("--reference", metavar="PYTHON", help="a Python with torch and transformers")
    parser.add_argument("--pretrained", metavar="FILE", help="checkpoint_vh.pt of the package sapiens 1.0.3")
    parser.add_argument("--logits", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.logits:
        model, folder, path, output = options.logits
        np.save(output, LOGITS[model](path, Path(folder)))
        return 0
    if not options.reference:
        parser.error("--reference PYTHON is needed")
    began, found, holds = time.monotonic(), {}, True
    for model in MODELS:
        with tempfile.TemporaryDirectory(prefix="pipeloom-reference-") as name:
            found[model], wrong = compare(model, Path(name), options.reference)
        print(*wrong, sep="\n")
        holds = holds and not wrong and max(found[model].values()) <= TOLERANCE
    rows = [
        "| " + " | ".join([what, *(f"{found[model][what]:.1e}" for model in MODELS)]) + " |"
        for what in found[next(iter(MODELS))]
    ]
    head = [
        "| largest difference | " + " | ".join(kind for kind in MODELS.values()) + " |",
        "|---|" + "---:|" * len(MODELS),
    ]
    facts = []
    if options.pretrained:
        with tempfile.TemporaryDirectory(prefix="pipeloom-reference-") as name:
            fact, differences, wrong = compare_pretrained(Path(name), options.pretrained, options.reference)
        print(*wrong, sep="\n")
        holds = holds and not wrong and max(differences) <= TOLERANCE
        facts.append(fact)
    command = "python benchmarks/models_reference.py --reference PYTHON --pretrained FILE --write"
    text = "\n\n".join([origin(command, time.monotonic() - began), "\n".join([*head, *rows]), *facts])
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            re.sub(rf"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.S), encoding="utf-8"
        )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
