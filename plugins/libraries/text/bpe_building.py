"""From tokenizer files to byte-level BPE of the ``tokenizers`` library, as transformers 5 makes it."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from pipeloom.plugins.libraries.text.special_tokens import ALL_ROLES, SpecialTokens
from pipeloom.plugins.libraries.text.tokenizer_files import (
    BYTE_BPE,
    BYTE_VOCABULARY,
    MERGES,
    PIPELINE,
    TokenizerFiles,
)

# Parts of other kinds of tokenizers, whose faults are no exceptions in the library but panics.
_FATAL = ("Precompiled", "FixedLength")


def bpe_roles(files: TokenizerFiles, special: SpecialTokens, engine: Tokenizer) -> Dict[str, Optional[int]]:
    """The ids of the tokens of ``ALL_ROLES``; those that no file has transformers adds, and so they are added here."""
    roles = {role: special.text(f"{role}_token") for role in ALL_ROLES}
    if files.is_whole and roles["eos"] is None:  # a tokenizer.json has no roles; these two texts can be nothing else
        ends = [text for text in ("<|endoftext|>", "</s>") if engine.token_to_id(text) is not None]
        roles["eos"] = ends[0] if ends else None
    found = {role: None if text is None else engine.token_to_id(text) for role, text in roles.items()}
    sep, cls = found["sep"], found["cls"]
    if files.kind == BYTE_BPE and sep is not None and cls is not None and "tokenizer_class" in files.settings:
        trims, prefix = files.flag("trim_offsets"), files.flag("add_prefix_space", False)
        frame = (str(roles["sep"]), sep), (str(roles["cls"]), cls)
        engine.post_processor = processors.RobertaProcessing(*frame, trims, prefix)
    return found


def bytes_without_token(files: TokenizerFiles, engine: Tokenizer) -> List[str]:
    """Return a line on bytes that the tokens of a byte-level BPE cannot write, if there are some."""
    if '"ByteLevel"' not in json.dumps(json.loads(engine.to_str())["pre_tokenizer"]):
        return []
    missing = [byte for byte in pre_tokenizers.ByteLevel.alphabet() if engine.token_to_id(byte) is None]
    if not missing or engine.model.unk_token is not None:
        return []
    return [f"{files.source}: {len(missing)} of the 256 bytes have no token: what is written with them is left out"]


def byte_bpe(files: TokenizerFiles) -> Tokenizer:
    """transformers' GPT2Tokenizer and RobertaTokenizer: tokens and merges, and what tokenizer_config.json says."""
    vocabulary, merges = files.vocabulary(), files.merges()
    try:
        model = models.BPE(
            vocabulary, merges, dropout=None, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False
        )
    except Exception as error:  # the library raises nothing more special
        name = PIPELINE if files.pipeline else f"{BYTE_VOCABULARY} and {MERGES}"
        raise files.error(name, f"it has no byte-level BPE that can be followed ({error})") from None
    engine = Tokenizer(model)
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=files.flag("add_prefix_space", False))
    engine.decoder = decoders.ByteLevel()
    if files.pipeline.get("post_processor") is not None:
        small = {**files.pipeline, "model": {**files.pipeline["model"], "vocab": {}, "merges": []}, "added_tokens": []}
        engine.post_processor = parsed(files, small).post_processor
    return engine


def parsed(files: TokenizerFiles, pipeline: Mapping[str, Any]) -> Tokenizer:
    """Return what the library makes of a tokenizer.json. Raises ``UsageError``."""
    bad = [kind for kind in _kinds([pipeline.get(name) for name in ("normalizer", "pre_tokenizer")]) if kind in _FATAL]
    if bad:
        raise files.error(PIPELINE, f"it has a {bad[0]}, which is not for WordPieces or BPE")
    try:
        return Tokenizer.from_str(json.dumps(pipeline))
    except Exception as error:  # the library raises nothing more special
        reason = f"it is damaged, or for another version of the tokenizers library ({error})"
        raise files.error(PIPELINE, reason) from None


def _kinds(part: Any) -> List[Any]:
    """The types of a normalizer or pre-tokenizer and of those that it is made of."""
    if isinstance(part, dict):
        return [part.get("type"), *(kind for inner in part.values() for kind in _kinds(inner))]
    return [kind for inner in part for kind in _kinds(inner)] if isinstance(part, list) else []
