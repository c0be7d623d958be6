"""A small byte-level BPE vocabulary: the files of a GPT-2 or RoBERTa tokenizer, the same in every Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from tokenizers import pre_tokenizers

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n", "r e", "Ċ Ċ", "Ġ Ġ", "Ã ©", "ð Ł", "l l", "' s")


def write_byte_bpe(folder: Path, settings: Any = None, config: Any = None, special: Optional[Any] = None) -> Path:
    """Write vocab.json and merges.txt, and with ``settings`` tokenizer_config.json, with ``config`` config.json."""
    tokens = [*(SPECIAL if special is None else special), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [pair.replace(" ", "") for pair in MERGES]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    for name, content in (("tokenizer_config.json", settings), ("config.json", config)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder
