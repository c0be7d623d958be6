"""From tokenizer files to a tokenizer of the ``tokenizers`` library, with the tokens and offsets of transformers 5."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipeloom.core.base.errors import UsageError, shown
from pipeloom.plugins.libraries.text.bpe_building import bpe_roles, byte_bpe, bytes_without_token, parsed
from pipeloom.plugins.libraries.text.special_tokens import ROLES, SpecialTokens
from pipeloom.plugins.libraries.text.tokenizer_files import (
    BERT,
    BYTE_BPE,
    PIPELINE,
    SETTINGS,
    VOCABULARY,
    TokenizerFiles,
)

#: How the pieces of a word begin, but for the first one; and the most characters of a word, as in BERT's own code.
CONTINUING, LONGEST_WORD = "##", 100

# What older tokenizers, written in Python, could be told and the library cannot; with the values that change nothing.
_UNFOLLOWED: Dict[str, Tuple[Any, ...]] = {
    "do_basic_tokenize": (True,),
    "wordpieces_prefix": (CONTINUING, None),
    "clean_text": (True,),
    "max_input_chars_per_word": (LONGEST_WORD,),
    "auto_map": (None,),
}

# A file that speaks of larger ids is damaged.
_LARGEST_ID = 1 << 24


@dataclass(frozen=True)
class Built:
    """``engine``: without truncation, padding or tokens around a text. ``roles``: the ids of the tokens of
    ``ALL_ROLES``, ``None`` where there is none; WordPieces have those of ``ROLES``, ``mask`` perhaps. ``continuing``:
    how all pieces of a word begin but the first, ``None`` for BPE. ``has_segments``: whether the second of two texts is
    told from the first (``token_type_ids``). ``notes``: lines on files that say different things."""

    engine: Tokenizer
    roles: Dict[str, Optional[int]]
    continuing: Optional[str] = CONTINUING
    has_segments: bool = True
    notes: List[str] = field(default_factory=list)


def build(files: TokenizerFiles) -> Built:
    """The tokenizer of ``files``. Raises ``UsageError`` for what cannot be followed."""
    special = SpecialTokens(files)
    _refuse_unfollowed(files, special)
    notes: List[str] = []
    if files.kind == BYTE_BPE:
        engine = byte_bpe(files)
    else:
        engine = _whole(files) if files.is_whole else _by_settings(files, special.text("unk_token"), notes)
    known = engine.get_vocab(with_added_tokens=True)
    if max(known.values(), default=0) > _LARGEST_ID:
        raise files.error(PIPELINE, f"it has a token with the id {max(known.values())}; it is damaged")
    special.add_to(engine, notes)
    if isinstance(engine.model, models.BPE):
        notes += bytes_without_token(files, engine)
        return Built(engine, bpe_roles(files, special, engine), None, False, notes)
    has_segments = _has_segments(files)
    if not has_segments:
        notes.append(
            f"{files.source}: its tokenizer gives no token_type_ids (model_input_names): both texts are of "
            "the first segment, as in transformers"
        )
    roles = _roles(files, special, engine, known)
    return Built(engine, roles, engine.model.continuing_subword_prefix, has_segments, notes)


def _roles(
    files: TokenizerFiles, special: SpecialTokens, engine: Tokenizer, known: Mapping[str, int]
) -> Dict[str, Optional[int]]:
    """The ids of the tokens of ``ROLES``. transformers adds those that are in no file; no model knows them."""
    texts = {role: special.text(f"{role}_token") for role in ROLES}
    found: Dict[str, Optional[int]] = {}
    if files.is_whole:
        found.update(_frame(files, known))
        texts["unk"] = engine.model.unk_token
        texts.update((role, ROLES[role]) for role in ("pad", "mask") if texts[role] is None and ROLES[role] in known)
    needed = [role for role in texts if role not in found]
    there = {*known, *special.declared}
    missing = [
        texts[role] or f"{role}_token"
        for role in needed
        if (role != "mask" if texts[role] is None else texts[role] not in there)
    ]
    if missing:
        raise UsageError(
            f"{files.source} has no {', '.join(missing)}; a WordPiece vocabulary has "
            f"{' '.join(ROLES.values())} or other tokens in their place"
        )
    for role in needed:
        text = texts[role]
        found[role] = None if text is None else engine.token_to_id(text)
    return found


def digest(files: TokenizerFiles) -> str:
    """Hex sha256 of what decides the tokens: of vocab.txt where that and ``files.lowercase`` say everything; of BPE the
    same whichever files say it."""
    content = files.content()
    built = None if files.kind == BERT else build(files)
    if built is not None and built.continuing is None:
        parts = json.loads(built.engine.to_str())
        said = [parts[name] for name in ("model", "normalizer", "pre_tokenizer", "added_tokens")]
        return hashlib.sha256(json.dumps([said, built.roles["eos"]], sort_keys=True).encode()).hexdigest()
    if VOCABULARY in content and not files.is_whole:
        alone = TokenizerFiles({VOCABULARY: content[VOCABULARY]}, files.source)
        alone = alone if files.lowercase is None else alone.with_lowercase(files.lowercase)
        if len(content) == 1 or _behaviour(alone) == _behaviour(files):
            return hashlib.sha256(content[VOCABULARY]).hexdigest()
    digests = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in content.items())
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _behaviour(files: TokenizerFiles) -> Any:
    built = build(files)
    return built.engine.to_str(), built.engine.encode_special_tokens, built.roles, built.has_segments


def from_tokens(tokens: Sequence[str], lowercase: bool) -> Built:
    """BERT's tokenizer of a list of tokens, whose places are their ids."""
    text = "".join(token + "\n" for token in tokens)
    return build(TokenizerFiles({VOCABULARY: text.encode()}, "the vocabulary").with_lowercase(lowercase))


def _by_settings(files: TokenizerFiles, unknown: Optional[str], notes: List[str]) -> Tokenizer:
    """transformers' BertTokenizer: the tokens, and what tokenizer_config.json says of it; nothing else counts."""
    flag = files.flag
    strip = None if files.settings.get("strip_accents") is None else flag("strip_accents")
    ids = files.vocabulary()
    try:
        engine = Tokenizer(
            models.WordPiece(
                ids,
                unk_token=unknown or ROLES["unk"],
                continuing_subword_prefix=CONTINUING,
                max_input_chars_per_word=LONGEST_WORD,
            )
        )
    except (TypeError, ValueError, OverflowError) as error:  # halves of characters, ids beyond 32 bits
        raise files.error(PIPELINE if files.pipeline else VOCABULARY, f"its tokens cannot be taken ({error})") from None
    engine.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=flag("tokenize_chinese_chars"),
        strip_accents=strip,
        lowercase=flag("do_lower_case"),
    )
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if files.pipeline:
        kind = files.pipeline["model"].get("type", "WordPiece")
        if kind != "WordPiece":
            raise files.error(PIPELINE, f"its model is {shown(kind)}; a WordPiece one is needed here")
        notes += _differences(files, json.loads(engine.to_str()), ids)
    return engine


def _differences(files: TokenizerFiles, taken: Mapping[str, Any], ids: Mapping[str, int]) -> List[str]:
    """Where tokenizer.json and the other files say different things."""
    lines = []
    if VOCABULARY in files.content() and files.lines() != ids:
        lines.append(
            f"{files.source}: {VOCABULARY} and {PIPELINE} have different tokens: those of {PIPELINE} count, "
            "as in transformers"
        )
    whole, model = files.pipeline, files.pipeline["model"]
    other: List[str] = [
        name for name in ("normalizer", "pre_tokenizer") if name in whole and _plain(whole[name]) != _plain(taken[name])
    ]
    other += [
        name
        for name in ("continuing_subword_prefix", "max_input_chars_per_word")
        if name in model and model[name] != taken["model"][name]
    ]
    if other:
        lines.append(
            f"{files.source}: {PIPELINE} has another {', '.join(other)} than a BertTokenizer with the "
            f"settings in {SETTINGS}, which counts, as in transformers; to follow {PIPELINE} say there "
            '"tokenizer_class": "PreTrainedTokenizerFast"'
        )
    return lines


def _plain(part: Any) -> Any:
    """A normalizer with what it means where it says nothing: accents go with capitals."""
    if isinstance(part, dict) and part.get("type") == "BertNormalizer" and part.get("strip_accents") is None:
        return {**part, "strip_accents": part.get("lowercase")}
    return part


def _whole(files: TokenizerFiles) -> Tokenizer:
    """tokenizer.json as it is, but for truncation and padding."""
    if "model" not in files.pipeline:
        raise files.error(
            PIPELINE,
            f"it is JSON, and no {PIPELINE} of a tokenizer; give a vocab.txt, one token a "
            "line, or a folder with tokenizer files",
        )
    engine = parsed(files, files.pipeline)
    engine.no_truncation()
    engine.no_padding()
    if isinstance(engine.model, models.BPE):
        engine.model.dropout = None  # the same text has the same tokens
        return engine
    if not isinstance(engine.model, models.WordPiece):
        name = type(engine.model).__name__
        raise files.error(PIPELINE, f"its model is {name}; a WordPiece or BPE one is needed here")
    if not engine.model.continuing_subword_prefix:
        raise files.error(PIPELINE, "it has no continuing_subword_prefix, which tells the first piece of a word apart")
    return engine


def _frame(files: TokenizerFiles, known: Mapping[str, int]) -> Dict[str, int]:
    """The ids of [CLS] and [SEP] in what tokenizer.json puts around texts: BERT's [CLS] A [SEP] B [SEP], nothing
    else."""
    part: Any = files.pipeline.get("post_processor")
    ids: Dict[str, int] = {}
    try:
        if part["type"] == "BertProcessing":
            ids = {role: part[role][1] for role in ("cls", "sep")}
        elif part["type"] == "TemplateProcessing":
            first, end = (part["single"][place]["SpecialToken"]["id"] for place in (0, -1))
            single = [_piece("SpecialToken", first, 0), _piece("Sequence", "A", 0), _piece("SpecialToken", end, 0)]
            pair = [*single, _piece("Sequence", "B", 1), _piece("SpecialToken", end, 1)]
            if (part["single"], part["pair"]) == (single, pair):
                (cls_id,), (sep_id,) = (part["special_tokens"][text]["ids"] for text in (first, end))
                ids = {"cls": cls_id, "sep": sep_id}
        if ids and set(ids.values()) <= set(known.values()):
            return ids
    except (LookupError, TypeError, ValueError):
        pass
    raise files.error(PIPELINE, "its post_processor does not put [CLS] A [SEP] B [SEP] around texts, as BERT needs it")


def _piece(kind: str, name: str, type_id: int) -> Dict[str, Any]:
    return {kind: {"id": name, "type_id": type_id}}


def _has_segments(files: TokenizerFiles) -> bool:
    without = files.is_whole or str(files.settings.get("tokenizer_class")).startswith("DistilBert")
    usual = [] if without else ["token_type_ids"]
    names = files.settings.get("model_input_names", usual)
    if not isinstance(names, list):
        raise files.error(SETTINGS, f"'model_input_names' must be a list of names, not {shown(names)}")
    return "token_type_ids" in names


def _refuse_unfollowed(files: TokenizerFiles, special: SpecialTokens) -> None:
    for name, harmless in _UNFOLLOWED.items():
        if name in files.settings and files.settings[name] not in harmless:
            raise files.error(SETTINGS, f"'{name}' is {shown(files.settings[name])}, which cannot be followed here")
    never = files.settings.get("never_split") or []
    known = set(map(str, special.named.values()))
    if not isinstance(never, list) or not all(isinstance(word, str) and word in known for word in never):
        raise files.error(
            SETTINGS,
            f"'never_split' is {shown(never)}, which cannot be followed here: make added tokens of these words",
        )
