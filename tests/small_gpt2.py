"""A small random GPT-2 as a HuggingFace folder, with the tokenizer of ``byte_bpe.py``; and an independent forward pass.

The pass is numpy's in double precision, whole, by the names of the folder: no code of ours, no cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from byte_bpe import write_byte_bpe
from safetensors.numpy import load_file, save_file

LAYERS, HEADS, HIDDEN, POSITIONS = 2, 2, 32, 48


def write_small_gpt2(folder: Path, seed: int = 0) -> Path:
    """Write it; weights are large enough that the tokens differ."""
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "add_prefix_space": False}
    write_byte_bpe(folder, settings)
    vocab = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new"}
    config.update(n_layer=LAYERS, n_head=HEADS, n_embd=HIDDEN, n_positions=POSITIONS, n_inner=None, vocab_size=vocab)
    config.update(layer_norm_epsilon=1e-5, bos_token_id=5, eos_token_id=5)
    (folder / "config.json").write_text(json.dumps(config))
    generator, tensors = np.random.default_rng(seed), {}

    def add(name, *shape, mean=0.0, std=0.3):
        tensors[name] = (mean + generator.standard_normal(shape) * std).astype(np.float32)

    def add_norm(name):
        add(f"{name}.weight", HIDDEN, mean=1.0)
        add(f"{name}.bias", HIDDEN, std=0.02)

    add("transformer.wte.weight", vocab, HIDDEN)
    add("transformer.wpe.weight", POSITIONS, HIDDEN, std=1.0)
    for number in range(LAYERS):
        name = f"transformer.h.{number}"
        for part, inner, out in (
            ("attn.c_attn", 1, 3),
            ("attn.c_proj", 1, 1),
            ("mlp.c_fc", 1, 4),
            ("mlp.c_proj", 4, 1),
        ):
            add(f"{name}.{part}.weight", inner * HIDDEN, out * HIDDEN)
            add(f"{name}.{part}.bias", out * HIDDEN)
        for part in ("ln_1", "ln_2"):
            add_norm(f"{name}.{part}")
    add_norm("transformer.ln_f")
    save_file(tensors, str(folder / "model.safetensors"), {"format": "pt"})
    return folder


class Reference:
    """The model of such a folder (Radford et al. 2019)."""

    def __init__(self, folder: Path) -> None:
        content = load_file(str(folder / "model.safetensors"))
        self._tensors = {name[len("transformer.") :]: value.astype(np.float64) for name, value in content.items()}

    def logits(self, ids) -> np.ndarray:
        """Return the logits of the token after ``ids``."""
        t, L = self._tensors, len(ids)
        x = t["wte.weight"][list(ids)] + t["wpe.weight"][:L]
        later = np.triu(np.full((L, L), -np.inf), 1)
        for number in range(LAYERS):
            name = f"h.{number}"
            fused = self._linear(self._norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
            q, k, v = (part.reshape(L, HEADS, -1).transpose(1, 0, 2) for part in np.split(fused, 3, axis=1))
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]) + later
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            context = (shares / shares.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(L, HIDDEN)
            x = x + self._linear(context, f"{name}.attn.c_proj")
            y = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
            y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
            x = x + self._linear(y, f"{name}.mlp.c_proj")
        return self._norm(x[-1:], "ln_f")[0] @ t["wte.weight"].T

    def greedy(self, ids, count: int, end: int = 5):
        """Return the likeliest tokens behind ``ids``, up to the token ``end``."""
        found = []
        while len(found) < count and (not found or found[-1] != end):
            found.append(int(self.logits([*ids, *found]).argmax()))
        return found

    def _linear(self, x, name):
        return x @ self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]

    def _norm(self, x, name):
        center = x - x.mean(-1, keepdims=True)
        scaled = center / np.sqrt((center**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
