"""The side of HuggingFace transformers in benchmarks/models_reference.py; nothing of pipeloom is imported here.

  ref/bin/python benchmarks/transformers_side.py train|convert|load MODEL FOLDER

`train` writes a random model to FOLDER/start, its logits, its losses in training, and the logits after it. `load` holds
what pipeloom exported, FOLDER/exported, against what pipeloom computes. `convert` makes FOLDER/start of a RoBERTa of
fairseq, FOLDER/fairseq.pt, instead of a random one. The last line is JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

SIDE = Path(__file__).resolve()
#: The models by plugin, as transformers names them.
MODELS = {"gpt2": "GPT2LMHeadModel", "roberta": "RobertaForMaskedLM"}
TEXTS = {"gpt2": "The try statement, naïvely.\n  if x: 42", "roberta": "The <mask> statement, naïvely.\n  if x: 42"}


def random_model(name, facts):
    """Make a small random model in which nothing is as simple as it begins."""
    import torch
    import transformers

    torch.manual_seed(facts["seed"])
    sizes = {"vocab_size": facts["vocab_size"]}
    if name == "gpt2":
        drop = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        config = transformers.GPT2Config(
            n_embd=64, n_layer=2, n_head=2, n_positions=facts["seq_length"], **sizes, **drop
        )
    else:
        drop = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        form = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256)
        ids = dict(
            pad_token_id=facts["pad_token_id"], max_position_embeddings=facts["seq_length"] + 1 + facts["pad_token_id"]
        )
        config = transformers.RobertaConfig(type_vocab_size=1, layer_norm_eps=1e-5, **sizes, **form, **ids, **drop)
    model = getattr(transformers, MODELS[name])(config)
    with torch.no_grad():  # biases and LayerNorms too, and the row of the padding
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def arguments_of(fields, labels):
    """Turn fields of samples into the model's arguments, with the labels of the losses if ``labels``."""
    import torch

    found = {"input_ids": fields["input_ids"]}
    if "input_mask" in fields:
        found["attention_mask"] = fields["input_mask"]
    if labels:
        wanted = np.full(fields["input_ids"].shape, -100)
        if (
            "next_ids" in fields
        ):  # transformers compares position n with label n + 1; the last token has none to compare
            wanted[:, 1:] = np.where(fields["next_weights"] > 0, fields["next_ids"], -100)[:, :-1]
        else:
            rows, used = np.nonzero(fields["masked_lm_weights"] > 0)
            wanted[rows, fields["masked_lm_positions"][rows, used]] = fields["masked_lm_ids"][rows, used]
        found["labels"] = wanted
    return {name: torch.tensor(values).long() for name, values in found.items()}


def loss_of(model, fields):
    """Compute the mean loss of a token of the batch."""
    import torch

    if "next_ids" not in fields:
        return model(**arguments_of(fields, True)).loss
    # Not by transformers' labels, which leave out the last token of a sample: its successor is known here.
    logits = model(**arguments_of(fields, False)).logits
    weights, ids = (torch.tensor(fields[name]) for name in ("next_weights", "next_ids"))
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.long().flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def logits_of(model, folder):
    """Compute the logits that are compared: at masked positions, or at all of them."""
    import torch

    fields = dict(np.load(folder / "compared.npz"))
    model.eval()
    with torch.no_grad():
        logits = model(**arguments_of(fields, False)).logits.numpy()
    if "masked_lm_positions" not in fields:
        return logits
    return np.take_along_axis(logits, fields["masked_lm_positions"][..., None].astype(np.int64), axis=1)


def train(name, folder):
    """Train the random model; return nothing that is wrong."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    facts = json.loads((folder / "facts.json").read_text())
    model = random_model(name, facts)
    model.save_pretrained(folder / "start")
    for file in facts["tokenizer"]:
        (folder / "start" / file).write_bytes((folder / file).read_bytes())
    start = logits_of(model, folder)
    model.train()
    plain = [p for name, p in model.named_parameters() if p.dim() == 1]  # biases and LayerNorms
    decayed = [p for p in model.parameters() if p.dim() > 1]
    groups = [dict(params=decayed, weight_decay=0.01), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=facts["rate"], betas=(0.9, 0.999), eps=1e-6)
    schedule = get_linear_schedule_with_warmup(optimizer, facts["steps"] // 10, facts["steps"])
    columns, losses = dict(np.load(folder / "train.npz")), []
    for step in range(facts["steps"]):
        rows = slice(step * facts["batch"], (step + 1) * facts["batch"])
        loss = loss_of(model, {name: values[rows] for name, values in columns.items()})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    np.savez(folder / "theirs.npz", losses=losses, start=start, trained=logits_of(model, folder))
    return {"losses": [losses[0], losses[-1]]}


#: Names of fairseq -> those of transformers, as its conversion script has them; a layer's behind its number.
FAIRSEQ = {
    "sentence_encoder.embed_tokens": "roberta.embeddings.word_embeddings",
    "sentence_encoder.embed_positions": "roberta.embeddings.position_embeddings",
    "sentence_encoder.emb_layer_norm": "roberta.embeddings.LayerNorm",
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
    "lm_head.dense": "lm_head.dense",
    "lm_head.layer_norm": "lm_head.layer_norm",
    "lm_head": "lm_head.decoder",
}


def convert(name, folder):
    """Write the model of fairseq as a folder, and its logits; return the share of masked tokens that it guesses."""
    import torch
    import transformers

    facts = json.loads((folder / "facts.json").read_text())
    stored = torch.load(folder / "fairseq.pt", map_location="cpu", weights_only=False)
    sizes, tensors = stored["args"], {}
    for key, value in stored["model"].items():
        key, _, kind = key.replace("decoder.", "", 1).rpartition(".")
        before, _, layer = key.partition("sentence_encoder.layers.")
        number, _, part = layer.partition(".")
        tensors[f"roberta.encoder.layer.{number}.{FAIRSEQ[part]}.{kind}" if layer else f"{FAIRSEQ[key]}.{kind}"] = value
    vocab, hidden = tensors["roberta.embeddings.word_embeddings.weight"].shape
    tensors["roberta.embeddings.token_type_embeddings.weight"] = torch.zeros(1, hidden)
    tensors["lm_head.bias"] = tensors["lm_head.decoder.bias"]
    config = transformers.RobertaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=sizes.encoder_layers,
        num_attention_heads=sizes.encoder_attention_heads,
        intermediate_size=sizes.encoder_ffn_embed_dim,
        max_position_embeddings=len(tensors["roberta.embeddings.position_embeddings.weight"]),
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    model = getattr(transformers, MODELS[name])(config)
    left = model.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys and set(left.missing_keys) <= {"roberta.embeddings.position_ids"}, left
    model.save_pretrained(folder / "start")
    words = ["<s>", "<pad>", "</s>", "<unk>", *facts["words"], "<mask>"]
    (folder / "start" / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "start" / "merges.txt").write_text("#version: 0.2\n")
    start, fields = logits_of(model, folder), np.load(folder / "compared.npz")
    np.savez(folder / "theirs.npz", start=start)
    return {"right": float((start.argmax(-1) == fields["masked_lm_ids"]).mean())}


def load(name, folder):
    """Load the export; return the largest difference of its logits and what is wrong with it."""
    import transformers

    kind = getattr(transformers, MODELS[name])
    model, found = kind.from_pretrained(folder / "exported", output_loading_info=True)
    wrong = [f"{what}: {sorted(values)}" for what, values in found.items() if values]
    read = transformers.AutoTokenizer.from_pretrained
    text = json.loads((folder / "facts.json").read_text()).get("words", TEXTS[name])
    tokens = [read(folder / place)(text)["input_ids"] for place in ("start", "exported")]
    if tokens[0] != tokens[1]:
        wrong.append(f"the exported tokenizer reads {text!r} as {tokens[1]}, that of the data as {tokens[0]}")
    difference = np.abs(logits_of(model, folder) - np.load(folder / "ours.npy")).max()
    return {"difference": float(difference), "wrong": wrong}


if __name__ == "__main__":
    command, model_name, where = sys.argv[1:]
    print(json.dumps({"train": train, "convert": convert, "load": load}[command](model_name, Path(where))))
