"""BERT's forward pass in numpy, float64, after the paper (Devlin et al. 2019) and by HuggingFace's names; without
dropout.
"""

from __future__ import annotations

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def layer_norm(x, weights, name, eps=1e-12):
    center = x - x.mean(-1, keepdims=True)
    return (
        center / np.sqrt((center**2).mean(-1, keepdims=True) + eps) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def dense(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def encode(weights, records, layers, heads):
    """``(N, L, H)`` hidden states of the records."""
    name, (N, L) = "bert.embeddings", records["input_ids"].shape
    x = (
        weights[f"{name}.word_embeddings.weight"][records["input_ids"]]
        + weights[f"{name}.position_embeddings.weight"][:L]
    )
    x = layer_norm(
        x + weights[f"{name}.token_type_embeddings.weight"][records["segment_ids"]], weights, f"{name}.LayerNorm"
    )
    for number in range(layers):
        name = f"bert.encoder.layer.{number}"
        query, key, value = (
            dense(x, weights, f"{name}.attention.self.{part}").reshape(N, L, heads, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        scores = np.where(records["input_mask"][:, None, None, :] == 1, scores, -np.inf)
        context = (np.exp(log_softmax(scores)) @ value).transpose(0, 2, 1, 3).reshape(N, L, -1)
        x = layer_norm(
            x + dense(context, weights, f"{name}.attention.output.dense"), weights, f"{name}.attention.output.LayerNorm"
        )
        y = dense(gelu(dense(x, weights, f"{name}.intermediate.dense")), weights, f"{name}.output.dense")
        x = layer_norm(x + y, weights, f"{name}.output.LayerNorm")
    return x


def evaluate(weights, records, layers, heads):
    """Losses and accuracies of pre-training over all records, as BERT's own evaluation counts them; tied decoder."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    x = encode(weights, records, layers, heads)
    chosen = np.take_along_axis(x, records["masked_lm_positions"][:, :, None], axis=1)
    chosen = layer_norm(
        gelu(dense(chosen, weights, "cls.predictions.transform.dense")), weights, "cls.predictions.transform.LayerNorm"
    )
    logits = chosen @ weights["bert.embeddings.word_embeddings.weight"].T + weights["cls.predictions.bias"]
    labels, counted = records["masked_lm_ids"], records["masked_lm_weights"].astype(np.float64)
    losses = -np.take_along_axis(log_softmax(logits), labels[:, :, None], axis=2)[:, :, 0]
    mlm_loss, mlm_accuracy = (
        (value * counted).sum() / counted.sum() for value in (losses, logits.argmax(-1) == labels)
    )
    relation = dense(np.tanh(dense(x[:, 0], weights, "bert.pooler.dense")), weights, "cls.seq_relationship")
    label = records["next_sentence_labels"]
    nsp_loss = -np.take_along_axis(log_softmax(relation), label, axis=1).mean()
    return {
        "loss": mlm_loss + nsp_loss,
        "mlm_loss": mlm_loss,
        "nsp_loss": nsp_loss,
        "mlm_accuracy": mlm_accuracy,
        "nsp_accuracy": (relation.argmax(-1) == label[:, 0]).mean(),
    }
