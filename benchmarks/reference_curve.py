#!/usr/bin/env python3
"""Loss curves of PyTorch and HuggingFace transformers, and how far ours are from them.

Both sides start from one HuggingFace folder and train 20 steps on the same real records in file order:
batch 16, no dropout, AdamW (0.9, 0.999, eps 1e-6, decay 0.01 but not on biases and LayerNorm). Cases:

  constant   learning rate 1e-3, no clipping
  linear     warmup of 4 steps from 0 to 1e-3, linear decay to 0 at step 20, gradient clipped to norm 1

Two environments take part, since OneFlow 0.9.0 and a recent PyTorch want different Pythons:

  python3.11 -m venv ref && ref/bin/pip install torch==2.13.0 transformers safetensors numpy
  ref/bin/python benchmarks/reference_curve.py reference --records part-0 --folder /tmp/bert --output /tmp/ref.json
  .venv/bin/python benchmarks/reference_curve.py compare --records part-0 --folder /tmp/bert --reference /tmp/ref.json

``--recipe tiny`` is what tests/fixtures/reference_curve.json holds. Nothing here imports pipeloom; torch and
transformers are imported where the reference runs.
"""
import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from zlib import crc32

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
STEPS, BATCH, RATE, WARMUP, TOLERANCE = 20, 16, 1e-3, 4, 1e-4
#: case -> (warmup steps, decays linearly, clips to this norm or 0)
CASES = {"constant": (0, False, 0.0), "linear": (WARMUP, True, 1.0)}

#: Sizes as config.json has them. ``tiny`` differs from every default, so that an ignored setting shows.
RECIPES = {
    "small": dict(num_hidden_layers=2, num_attention_heads=4, hidden_size=128, intermediate_size=512,
                  max_position_embeddings=512, vocab_size=30522, layer_norm_eps=1e-12),
    "tiny": dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=64, intermediate_size=96,
                 max_position_embeddings=160, vocab_size=30528, layer_norm_eps=1e-3),
}


# ---- the checkpoint: made of numbers that every version of numpy draws alike --------------------------

def shapes(sizes):
    """The parameters of BertForPreTraining, by name."""
    h, f, v = sizes["hidden_size"], sizes["intermediate_size"], sizes["vocab_size"]
    result = {}

    def dense(name, out, inner):
        result[name + ".weight"], result[name + ".bias"] = (out, inner), (out,)

    def norm(name):
        result[name + ".weight"], result[name + ".bias"] = (h,), (h,)

    for name, rows in (("word", v), ("position", sizes["max_position_embeddings"]), ("token_type", 2)):
        result[f"bert.embeddings.{name}_embeddings.weight"] = (rows, h)
    norm("bert.embeddings.LayerNorm")
    for number in range(sizes["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{number}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            dense(f"{layer}.{name}", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", f, h)
        dense(f"{layer}.output.dense", h, f)
        norm(f"{layer}.output.LayerNorm")
    dense("bert.pooler.dense", h, h)
    dense("cls.predictions.transform.dense", h, h)
    norm("cls.predictions.transform.LayerNorm")
    result["cls.predictions.bias"] = (v,)
    dense("cls.seq_relationship", 2, h)
    return result


def value(name, shape, seed=7):
    """float32: uniform with standard deviation 0.02, around 1 for the weights of LayerNorm; no bias is 0.

    From the raw words of the generator: numpy keeps those the same, what it makes of them may change.
    """
    words = np.random.Philox(key=np.array([crc32(name.encode()), seed], np.uint64)).random_raw(int(np.prod(shape)))
    uniform = ((words >> np.uint64(40)).astype(np.float64) / 2 ** 24 - 0.5) * (0.02 * 12 ** 0.5)
    return (uniform.reshape(shape) + name.endswith("LayerNorm.weight")).astype(np.float32)


def write_folder(folder, recipe):
    """Write ``config.json`` and ``model.safetensors`` of a recipe; the same bytes everywhere."""
    from safetensors.numpy import save_file

    folder, sizes = Path(folder), RECIPES[recipe]
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["BertForPreTraining"], "model_type": "bert", **sizes, "hidden_act": "gelu", "type_vocab_size": 2,
              "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "tie_word_embeddings": True, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value(name, shape) for name, shape in shapes(sizes).items()}, str(folder / "model.safetensors"),
              metadata={"format": "pt"})


# ---- the records: OFRecord is [int64 length][protobuf message] -------------------------------------------

def _fields(data):
    """``(number, value)`` of a protobuf message; varints as int, everything else as bytes."""
    def varint(position):
        result = shift = 0
        while True:
            byte = data[position]
            result |= (byte & 127) << shift
            position, shift = position + 1, shift + 7
            if byte < 128:
                return result, position

    position = 0
    while position < len(data):
        key, position = varint(position)
        if key & 7 == 0:
            item, position = varint(position)
        else:
            length = {1: 8, 5: 4}.get(key & 7)
            if length is None:
                length, position = varint(position)
            item, position = data[position:position + length], position + length
        yield key >> 3, item


def _packed_ints(data):
    """Packed varints (none of these records has a negative one)."""
    values, current, shift = [], 0, 0
    for byte in data:
        current |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(current)
            current = shift = 0
    return values


def read_records(path, count):
    """The first ``count`` records: field -> ``(count, values)``, int64 or float32."""
    columns = {}
    with open(path, "rb") as file:
        for _ in range(count):
            (length,) = struct.unpack("<q", file.read(8))
            for _, entry in _fields(file.read(length)):                # map<string, Feature> feature = 1
                entry = dict(_fields(entry))
                (kind, values), = _fields(entry[2])                     # one typed list: 2 = float, 4 = int32, 5 = int64
                values = dict(_fields(values)).get(1, b"")
                parsed = np.frombuffer(values, "<f4") if kind == 2 else np.array(_packed_ints(values), np.int64)
                columns.setdefault(entry[1].decode(), []).append(parsed)
    return {name: np.stack(rows) for name, rows in columns.items()}


# ---- the reference -------------------------------------------------------------------------------------------

def train_reference(folder, records, case, double):
    """Losses and gradient norms of each step."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import BertForPreTraining, get_linear_schedule_with_warmup

    model, report = BertForPreTraining.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    left = [names for key, names in report.items() if names and key != "error_msgs"] + list(report.get("error_msgs") or [])
    assert not left, f"the folder and BertForPreTraining do not match: {left}"
    model = (model.double() if double else model.float()).train()
    warmup, decays, clip = CASES[case]
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for p in model.parameters() if all(p is not other for other in plain)]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.01), dict(params=plain, weight_decay=0.0)],
                                  lr=RATE, betas=(0.9, 0.999), eps=1e-6)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, STEPS) if decays else None
    losses, norms = [], []
    for step in range(STEPS):
        batch = {name: torch.tensor(column[step * BATCH:(step + 1) * BATCH]) for name, column in records.items()}
        output = model.bert(batch["input_ids"], attention_mask=batch["input_mask"], token_type_ids=batch["segment_ids"])
        hidden, positions = output.last_hidden_state, batch["masked_lm_positions"]
        chosen = torch.gather(hidden, 1, positions[:, :, None].expand(-1, -1, hidden.shape[-1]))
        logits, relationship = model.cls(chosen, output.pooler_output)
        weights = batch["masked_lm_weights"].to(logits.dtype).reshape(-1)
        each = cross_entropy(logits.reshape(len(weights), -1), batch["masked_lm_ids"].reshape(-1), reduction="none")
        loss = (each * weights).sum() / weights.sum() + cross_entropy(relationship, batch["next_sentence_labels"].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip or float("inf"))))
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(loss))
    return losses, norms


def run_reference(options):
    """Make the folder, train every case in float32 and float64, write the JSON."""
    import torch
    import transformers

    write_folder(options.folder, options.recipe)
    if options.recipe == "small":  # as transformers itself writes a folder
        transformers.BertForPreTraining.from_pretrained(options.folder).save_pretrained(options.folder)
    records = read_records(options.records, STEPS * BATCH)
    result = {"recipe": options.recipe, "made_by": f"{Path(__file__).name}, torch {torch.__version__}, transformers "
              f"{transformers.__version__}, numpy {np.__version__}", "cases": {}}
    for case in CASES:
        single, norms = train_reference(options.folder, records, case, double=False)
        double, _ = train_reference(options.folder, records, case, double=True)
        result["cases"][case] = {"float32": single, "float64": double, "gradient_norm": norms}
        print(f"{case}: loss {single[0]:.4f} -> {single[-1]:.4f}, gradient norm {min(norms):.2f} to {max(norms):.2f}, "
              f"float32 against float64 {largest(single, double)[0]:.1e}")
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


# ---- ours ----------------------------------------------------------------------------------------------------

def largest(ours, theirs):
    """The largest difference and its step, from 1."""
    differences = [abs(a - b) for a, b in zip(ours, theirs)]
    assert len(ours) == len(theirs) and all(d == d for d in differences)
    return max((difference, step) for step, difference in enumerate(differences, start=1))


def flags(folder, records, case):
    """Flags of entry.py for a case, but for the layout."""
    warmup, decays, clip = CASES[case]
    return ["--plugins", "inter_first,bert,wiki_ofrecord", "--init_from", str(folder), "--ofrecord_path", str(records),
            "--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--shuffle", "false", "--log_every", "1",
            "--train_steps", str(STEPS), "--train_global_batch_size", str(BATCH), "--learning_rate", str(RATE), "--warmup_steps", str(warmup),
            "--lr_schedule", "linear" if decays else "constant", "--clip_grad_norm", str(clip), "--weight_decay", "0.01", "--adam_eps", "1e-6"]


LAYOUTS = {"one process": ["--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1", "--grad_acc_steps", "1"],
           "PP2 x DP2": ["--nnodes", "2", "--nproc_per_node", "2", "--nums_split", "2", "--grad_acc_steps", "4"]}


def train_ours(arguments, directory):
    """Losses of each step of a run of entry.py in this Python."""
    done = subprocess.run([sys.executable, str(ROOT / "entry.py"), *arguments, "--output_dir", str(directory)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"entry.py ended with exit code {done.returncode}:\n{done.stdout}")
    return [json.loads(line)["loss"] for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def run_compare(options):
    """Print the largest difference of each case and layout; exit code 1 when one is above 1e-4."""
    reference, good = json.loads(Path(options.reference).read_text()), True
    print(f"{'case':<10} {'layout':<12} {'to float32':>12} {'at step':>8} {'to float64':>12}   (reference {largest.__name__} float32 to float64)")
    for case, curves in reference["cases"].items():
        for layout, where in LAYOUTS.items():
            with tempfile.TemporaryDirectory() as directory:
                ours = train_ours([*flags(options.folder, options.records, case), *where], Path(directory) / "run")
            single, double = largest(ours, curves["float32"]), largest(ours, curves["float64"])
            good = good and single[0] <= TOLERANCE
            print(f"{case:<10} {layout:<12} {single[0]:>12.2e} {single[1]:>8} {double[0]:>12.2e}   "
                  f"({largest(curves['float32'], curves['float64'])[0]:.2e})", flush=True)
    print(f"at most {TOLERANCE:g} at every step: {'yes' if good else 'NO'}")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("reference", run_reference), ("compare", run_compare)):
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--records", required=True, help="the OFRecord file part-0")
        command.add_argument("--folder", required=True, help="the HuggingFace folder: written by 'reference', read by 'compare'")
        if name == "reference":
            command.add_argument("--output", required=True, help="the JSON file to write")
            command.add_argument("--recipe", choices=RECIPES, default="small")
        else:
            command.add_argument("--reference", required=True, help="the JSON file that 'reference' wrote")
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
