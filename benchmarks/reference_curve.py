#!/usr/bin/env python3
"""Loss curves of PyTorch and HuggingFace transformers, and how far ours are from them.

Both sides start from one HuggingFace folder and train 20 steps on the same real records in file order:
batch 16, no dropout, AdamW (0.9, 0.999, eps 1e-6, decay 0.01 but not on biases and LayerNorm). Cases:

  constant   learning rate 1e-3, no clipping
  linear     warmup of 4 steps from 0 to 1e-3, linear decay to 0 at step 20, gradient clipped to norm 1

Two environments take part, since OneFlow 0.9.0 and a recent PyTorch want different Pythons:

  python3.11 -m venv ref && ref/bin/pip install torch==2.13.0 transformers safetensors numpy
  ref/bin/python benchmarks/reference_curve.py reference --records .../part-0 --folder /tmp/bert --curves /tmp/curves.json
  .venv/bin/python benchmarks/reference_curve.py compare --records .../part-0 --folder /tmp/bert --curves /tmp/curves.json

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
STEPS, BATCH, RATE, TOLERANCE = 20, 16, 1e-3, 1e-4
#: case -> (warmup steps, decays linearly, clips to this norm or 0)
CASES = {"constant": (0, False, 0.0), "linear": (4, True, 1.0)}
LAYOUTS = {
    "one process": "--nnodes 1 --nproc_per_node 1 --nums_split 1 --grad_acc_steps 1".split(),
    "PP2 x DP2": "--nnodes 2 --nproc_per_node 2 --nums_split 2 --grad_acc_steps 4".split(),
}
#: Sizes as config.json has them. ``tiny`` differs from every default, so that an ignored setting shows.
RECIPES = {
    "small": dict(
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_size=128,
        intermediate_size=512,
        max_position_embeddings=512,
        vocab_size=30522,
        layer_norm_eps=1e-12,
    ),
    "tiny": dict(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=64,
        intermediate_size=96,
        max_position_embeddings=160,
        vocab_size=30528,
        layer_norm_eps=1e-3,
    ),
}


def shapes(sizes):
    """The parameters of BertForPreTraining, by name."""
    h, f, v, result = sizes["hidden_size"], sizes["intermediate_size"], sizes["vocab_size"], {}

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
    """float32, uniform; around 1 for the weights of LayerNorm. No bias is 0, and attention is far from uniform.

    From the raw words of the generator: numpy keeps those the same, what it makes of them may change.
    """
    words = np.random.Philox(key=np.array([crc32(name.encode()), seed], np.uint64)).random_raw(int(np.prod(shape)))
    uniform = ((words >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5) * (0.07 if "embeddings" in name else 0.5)
    return (uniform.reshape(shape) + name.endswith("LayerNorm.weight")).astype(np.float32)


def write_folder(folder, recipe):
    """Write ``config.json`` and ``model.safetensors`` of a recipe; the same bytes everywhere."""
    from safetensors.numpy import save_file

    folder, sizes = Path(folder), RECIPES[recipe]
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        **sizes,
        "hidden_act": "gelu",
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(
        {name: value(name, shape) for name, shape in shapes(sizes).items()},
        str(folder / "model.safetensors"),
        metadata={"format": "pt"},
    )


def _varint(data, position):
    """The number at ``position`` and the position behind it."""
    result, first = 0, position
    while data[position] > 127:
        result |= (data[position] & 127) << 7 * (position - first)
        position += 1
    return result | data[position] << 7 * (position - first), position + 1


def _message(data):
    """``(number, bytes)`` of the fields of a protobuf message whose fields all have a length."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        assert key & 7 == 2, "no OFRecord"
        length, position = _varint(data, position)
        yield key >> 3, data[position : position + length]
        position += length


def _packed_ints(data):
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def read_records(path, count):
    """The first ``count`` records: field -> ``(count, values)``, int64 or float32.

    A file is a row of ``[int64 length][message]`` (oneflow/core/record/record.proto).
    """
    columns = {}
    with open(path, "rb") as file:
        for _ in range(count):
            message = file.read(*struct.unpack("<q", file.read(8)))
            for _, entry in _message(message):  # map<string, Feature> feature = 1
                entry = dict(_message(entry))
                ((kind, values),) = _message(entry[2])  # one typed list: 2 = float, 4 = int32
                values = dict(_message(values)).get(1, b"")
                parsed = np.frombuffer(values, "<f4") if kind == 2 else np.array(list(_packed_ints(values)), np.int64)
                columns.setdefault(entry[1].decode(), []).append(parsed)
    return {name: np.stack(rows) for name, rows in columns.items()}


def train_reference(folder, records, case, double):
    """Losses and gradient norms of each step."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import BertForPreTraining, get_linear_schedule_with_warmup

    model, report = BertForPreTraining.from_pretrained(
        folder,
        attn_implementation="eager",
        output_loading_info=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    assert not any(report.values()), f"the folder and BertForPreTraining do not match: {report}"
    model = (model.double() if double else model.float()).train()
    warmup, decays, clip = CASES[case]
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for p in model.parameters() if all(p is not other for other in plain)]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.01), dict(params=plain, weight_decay=0.0)],
        lr=RATE,
        betas=(0.9, 0.999),
        eps=1e-6,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, STEPS) if decays else None
    losses, norms = [], []
    for step in range(STEPS):
        batch = {name: torch.tensor(column[step * BATCH : (step + 1) * BATCH]) for name, column in records.items()}
        output = model.bert(batch["input_ids"], attention_mask=batch["input_mask"], token_type_ids=batch["segment_ids"])
        hidden, positions = output.last_hidden_state, batch["masked_lm_positions"]
        chosen = torch.gather(hidden, 1, positions[:, :, None].expand(-1, -1, hidden.shape[-1]))
        logits, relationship = model.cls(chosen, output.pooler_output)
        weights = batch["masked_lm_weights"].to(logits.dtype).reshape(-1)
        each = cross_entropy(logits.reshape(len(weights), -1), batch["masked_lm_ids"].reshape(-1), reduction="none")
        loss = (each * weights).sum() / weights.sum() + cross_entropy(
            relationship, batch["next_sentence_labels"].reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip or float("inf")).item())
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.item())
    return losses, norms


def run_reference(options):
    """Make the folder, train every case in float32 and float64, write the JSON."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # how sums are rounded depends on it
    write_folder(options.folder, options.recipe)
    if options.recipe == "small":  # as transformers itself writes a folder
        transformers.BertForPreTraining.from_pretrained(options.folder).save_pretrained(options.folder)
    records = read_records(options.records, STEPS * BATCH)
    result = {
        "recipe": options.recipe,
        "cases": {},
        "made_by": f"torch {torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}",
    }
    for case in CASES:
        (single, norms), (double, _) = (
            train_reference(options.folder, records, case, double) for double in (False, True)
        )
        result["cases"][case] = {"float32": single, "float64": double, "gradient_norm": norms}
        print(
            f"{case}: loss {single[0]:.4f} -> {single[-1]:.4f}, gradient norm {min(norms):.2f} to {max(norms):.2f}, "
            f"float32 against float64 {largest(single, double)[0]:.1e}"
        )
    Path(options.curves).write_text(json.dumps(result, indent=1) + "\n")


def largest(ours, theirs):
    """The largest difference and its step, from 1."""
    assert len(ours) == len(theirs)
    return max((abs(a - b), step) for step, (a, b) in enumerate(zip(ours, theirs), start=1))


def flags(folder, records, case):
    """Flags of entry.py for a case, but for the layout."""
    warmup, decays, clip = CASES[case]
    return [
        "--init_from",
        str(folder),
        "--ofrecord_path",
        str(records),
        *(
            f"--hidden_dropout_prob 0 --attention_probs_dropout_prob 0 --shuffle false "
            f"--log_every 1 --train_steps {STEPS} --train_global_batch_size {BATCH} --learning_rate {RATE} "
            f"--warmup_steps {warmup} "
            f"--lr_schedule {'linear' if decays else 'constant'} --clip_grad_norm {clip} --weight_decay 0.01 "
            f"--adam_eps 1e-6"
        ).split(),
    ]


def train_ours(arguments, directory):
    """Losses of each step of a run of entry.py in this Python."""
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "entry.py"),
            "--plugins",
            "inter_first,bert,wiki_ofrecord",
            *arguments,
            "--output_dir",
            str(directory),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"entry.py ended with exit code {done.returncode}:\n{done.stdout}")
    return [json.loads(line)["loss"] for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def run_compare(options):
    """Print the largest difference of each case and layout; exit code 1 when one is above 1e-4."""
    print("case       layout         to float32 (step)   to float64   the reference's float32 to its float64")
    worst = 0.0
    for case, curves in json.loads(Path(options.curves).read_text())["cases"].items():
        for layout, where in LAYOUTS.items():
            with tempfile.TemporaryDirectory() as directory:
                ours = train_ours([*flags(options.folder, options.records, case), *where], Path(directory) / "run")
            single, double = largest(ours, curves["float32"]), largest(ours, curves["float64"])
            worst = max(worst, single[0], double[0])
            print(
                f"{case:<10} {layout:<12} {single[0]:>12.1e} ({single[1]:>2}) {double[0]:>14.1e}   "
                f"{largest(curves['float32'], curves['float64'])[0]:.1e}",
                flush=True,
            )
    print(f"at most {TOLERANCE:g} at every step: {'yes' if worst <= TOLERANCE else 'NO'}")
    return int(worst > TOLERANCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("reference", "compare"))
    parser.add_argument("--records", required=True, help="the OFRecord file part-0")
    parser.add_argument("--folder", required=True, help="the HuggingFace folder: reference writes it, compare reads it")
    parser.add_argument("--curves", required=True, help="the JSON file: reference writes it, compare reads it")
    parser.add_argument("--recipe", choices=RECIPES, default="small", help="reference: which checkpoint to make")
    options = parser.parse_args()
    return run_reference(options) if options.command == "reference" else run_compare(options)


if __name__ == "__main__":
    sys.exit(main())
