"""From tokenizer files to a tokenizer of the ``tokenizers`` library that gives the tokens and offsets of transformers 5."""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pipeloom.core.data.tokenizer_files import ADDED, PIPELINE, SETTINGS, SPECIAL_NAMES, VOCABULARY, TokenizerFiles
from pipeloom.core.errors import UsageError, shown

#: What a model needs a token for, and its usual name.
ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

#: How the pieces of a word begin, but for the first one; and of how many characters a word may be, as in BERT's own code.
CONTINUING, LONGEST_WORD = "##", 100

# The settings that name one token each, in the order in which those that the vocabulary lacks get their ids.
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# What older tokenizers, written in Python, could be told and the library cannot; with the values that change nothing.
_UNFOLLOWED: Dict[str, Tuple[Any, ...]] = {"do_basic_tokenize": (True,), "wordpieces_prefix": (CONTINUING, None), "clean_text": (True,),
                                           "max_input_chars_per_word": (LONGEST_WORD,), "auto_map": (None,)}


@dataclass(frozen=True)
class Built:
    """``engine``: without truncation, padding or tokens around a text. ``roles``: the ids of the tokens of ``ROLES``; that of ``mask``
    may be ``None``. ``continuing``: how all pieces of a word begin but the first. ``has_segments``: whether the second of two texts is
    told from the first (``token_type_ids``). ``notes``: lines on files that say different things."""

    engine: Tokenizer
    roles: Dict[str, Optional[int]]
    continuing: str = CONTINUING
    has_segments: bool = True
    notes: List[str] = field(default_factory=list)


def build(files: TokenizerFiles) -> Built:
    """The tokenizer of ``files``. Raises ``UsageError`` for what cannot be followed."""
    special = _Special(files)
    _refuse_unfollowed(files, special)
    notes: List[str] = []
    engine = _whole(files) if files.is_whole else _bert(files, special.text("unk_token"), notes)
    known = engine.get_vocab(with_added_tokens=True)
    special.add_to(engine, notes)
    frame = _frame(files, engine) if files.is_whole else {}
    texts = {role: special.text(f"{role}_token") for role in ROLES}
    if files.is_whole:
        texts["unk"] = engine.model.unk_token
        texts.update((role, texts[role] or ROLES[role]) for role in ("pad", "mask") if texts[role] or ROLES[role] in known)
    roles = {role: frame.get(role, None if text is None else engine.token_to_id(text)) for role, text in texts.items()}
    for role, text in texts.items():
        if role not in frame and (text is None and role != "mask" or text is not None and text not in special.declared and text not in known):
            raise UsageError(f"{files.source} has no {text or role + '_token'}; a WordPiece vocabulary has {' '.join(t or ROLES[r] for r, t in texts.items())}"
                             ", one token a line")
    has_segments = _has_segments(files)
    if not has_segments:
        notes.append(f"{files.source}: its tokenizer gives no token_type_ids (model_input_names): both texts are of the first segment, as in "
                     "transformers")
    return Built(engine, roles, engine.model.continuing_subword_prefix, has_segments, notes)


def digest(files: TokenizerFiles) -> str:
    """Hex sha256 of what decides the tokens: of vocab.txt where that, and whether text is lower-cased, say everything."""
    content = files.content()
    if VOCABULARY in content and not files.is_whole:
        alone = TokenizerFiles({VOCABULARY: content[VOCABULARY]}, files.source)
        alone = alone if files.lowercase is None else alone.with_lowercase(files.lowercase)
        if len(content) == 1 or build(alone).engine.to_str() == build(files).engine.to_str():
            return hashlib.sha256(content[VOCABULARY]).hexdigest()
    return hashlib.sha256(json.dumps(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in content.items())).encode()).hexdigest()


def from_tokens(tokens: Sequence[str], lowercase: bool) -> Built:
    """BERT's tokenizer of a list of tokens, whose places are their ids."""
    text = "".join(token + "\n" for token in tokens)
    return build(TokenizerFiles({VOCABULARY: text.encode()}, "the vocabulary").with_lowercase(lowercase))


def _bert(files: TokenizerFiles, unknown: Optional[str], notes: List[str]) -> Tokenizer:
    """transformers' BertTokenizer: the tokens, and what tokenizer_config.json says of it; nothing else counts."""
    flag = files.flag
    strip = None if files.settings.get("strip_accents") is None else flag("strip_accents")
    ids = files.vocabulary()
    engine = Tokenizer(models.WordPiece(ids, unk_token=unknown or ROLES["unk"], continuing_subword_prefix=CONTINUING,
                                        max_input_chars_per_word=LONGEST_WORD))
    engine.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=flag("tokenize_chinese_chars"), strip_accents=strip,
                                                   lowercase=flag("do_lower_case"))
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
        lines.append(f"{files.source}: {VOCABULARY} and {PIPELINE} have different tokens: those of {PIPELINE} count, as in transformers")
    other = [name for name in ("normalizer", "pre_tokenizer") if name in files.pipeline and _plain(files.pipeline[name]) != _plain(taken[name])]
    model = files.pipeline["model"]
    other += [name for name in ("continuing_subword_prefix", "max_input_chars_per_word") if model.get(name, taken["model"][name]) != taken["model"][name]]
    if other:
        lines.append(f"{files.source}: {PIPELINE} has another {', '.join(other)} than a BertTokenizer with the settings in {SETTINGS}, which counts, "
                     f"as in transformers; to follow {PIPELINE} say \"tokenizer_class\": \"PreTrainedTokenizerFast\" there")
    return lines


def _plain(part: Any) -> Any:
    """A normalizer with what it means where it says nothing: accents go with capitals."""
    if isinstance(part, dict) and part.get("type") == "BertNormalizer" and part.get("strip_accents") is None:
        return {**part, "strip_accents": part.get("lowercase")}
    return part


def _whole(files: TokenizerFiles) -> Tokenizer:
    """tokenizer.json as it is, but for truncation and padding."""
    if "model" not in files.pipeline:
        raise files.error(PIPELINE, f"it is JSON, and no {PIPELINE} of a tokenizer; give a vocab.txt, one token a line, or a folder with tokenizer files")
    try:
        engine = Tokenizer.from_str(json.dumps(files.pipeline))
    except Exception as error:    # the library raises nothing more special
        raise files.error(PIPELINE, f"it is damaged, or of another version of the tokenizers library ({error})") from None
    if not isinstance(engine.model, models.WordPiece):
        raise files.error(PIPELINE, f"its model is {type(engine.model).__name__}; a WordPiece one is needed here")
    if not engine.model.continuing_subword_prefix:
        raise files.error(PIPELINE, "it has no continuing_subword_prefix, which tells the first piece of a word from the others")
    engine.no_truncation()
    engine.no_padding()
    return engine


def _frame(files: TokenizerFiles, engine: Tokenizer) -> Dict[str, int]:
    """The ids of [CLS] and [SEP] in what tokenizer.json puts around texts, which must be what BERT has: [CLS] A [SEP] B [SEP]."""
    found = files.pipeline.get("post_processor")
    try:
        if found["type"] == "BertProcessing":
            return {role: int(found[role][1]) for role in ("cls", "sep")}
        if found["type"] == "TemplateProcessing":
            first, end = (found["single"][place]["SpecialToken"]["id"] for place in (0, -1))
            single = [_piece("SpecialToken", first, 0), _piece("Sequence", "A", 0), _piece("SpecialToken", end, 0)]
            if found["single"] == single and found["pair"] == [*single, _piece("Sequence", "B", 1), _piece("SpecialToken", end, 1)]:
                (cls_id,), (sep_id,) = (found["special_tokens"][text]["ids"] for text in (first, end))
                return {"cls": cls_id, "sep": sep_id}
    except (LookupError, TypeError, ValueError):
        pass
    raise files.error(PIPELINE, "its post_processor does not put [CLS] A [SEP] B [SEP] around texts, which is what BERT reads")


def _piece(kind: str, name: str, type_id: int) -> Dict[str, Any]:
    return {kind: {"id": name, "type_id": type_id}}


class _Special:
    """The tokens that are found in a text before it is split into words: those with a role and those that were added."""

    def __init__(self, files: TokenizerFiles) -> None:
        self._files = files
        settings = dict(files.settings)
        if settings.get("additional_special_tokens") and not settings.get("extra_special_tokens"):
            settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
        self._added: Dict[int, AddedToken] = {}
        if "added_tokens_decoder" in settings:
            self._added = {_number(files, number): self._token(token, SETTINGS)
                           for number, token in _entries(files, SETTINGS, settings["added_tokens_decoder"])}
        else:
            settings.update(files.special_names)
            self._read_older(settings)
        by_text = {token.content: token for token in self._added.values()}
        # Models of several kinds of data have names of their own, such as image_token.
        names = [*_NAMED, *(name for name in settings if name.endswith("_token") and name not in _NAMED and isinstance(settings[name], (str, dict)))]
        usual = {} if files.is_whole else {f"{role}_token": text for role, text in ROLES.items()}
        self.named: Dict[str, Union[str, AddedToken]] = {}
        for name in names:
            value = settings.get(name, usual.get(name))
            if value is not None:
                token = self._token(value, SETTINGS, special=True)
                self.named[name] = by_text.get(token.content, value if isinstance(value, str) else token)
        extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
        if isinstance(extra, dict):
            extra = list(extra.values())
        if not isinstance(extra, list):
            raise files.error(SETTINGS, f"'extra_special_tokens' must be a list of tokens, not {shown(extra)}")
        self._extra = [value if isinstance(value, str) else self._token(value, SETTINGS, special=True) for value in extra]
        split = settings.get("split_special_tokens", False)
        if not isinstance(split, bool):
            raise files.error(SETTINGS, f"'split_special_tokens' must be true or false, not {shown(split)}")
        self._split = split
        #: Texts of tokens that a file gives an id.
        self.declared = set(by_text)

    def text(self, name: str) -> Optional[str]:
        """The text of the token named so."""
        return str(self.named[name]) if name in self.named else None

    def add_to(self, engine: Tokenizer, notes: List[str]) -> None:
        """Add them in the order of transformers, which decides their ids."""
        ids = engine.get_vocab(with_added_tokens=False)
        there = {repr(token) for token in engine.get_added_tokens_decoder().values()}
        tokens: List[Union[str, AddedToken]] = [token for _, token in sorted(self._added.items()) if repr(token) not in there]
        texts = {*map(str, engine.get_added_tokens_decoder().values()), *map(str, tokens)}
        roles = set(map(str, self.named.values()))
        for token in tokens:
            token.special = token.special or token.content in roles
        for token in (*self.named.values(), *self._extra):
            if str(token) not in texts and token not in tokens:    # a text is no equal of a token: both are added then, and the last counts
                tokens.append(token)
        engine.add_tokens([AddedToken(token, special=True) if isinstance(token, str) else token for token in tokens])
        engine.encode_special_tokens = self._split
        taken = set(ids.values())
        for number, token in engine.get_added_tokens_decoder().items():
            if token.content not in ids and number in taken:
                raise UsageError(f"{self._files.source}: the added token '{token.content}' gets the id {number}, which another token has: a token stands "
                                 f"twice in {VOCABULARY}, so that there are fewer tokens than ids")
        for number, token in self._added.items():
            if engine.token_to_id(token.content) != number:
                notes.append(f"{self._files.source}: the added token '{token.content}' has the id {engine.token_to_id(token.content)}, as in "
                             f"transformers, and not {number}, as its files say")

    def _read_older(self, settings: Dict[str, Any]) -> None:
        """What counts where tokenizer_config.json has no 'added_tokens_decoder'."""
        files = self._files
        special = {self._token(settings[name], SPECIAL_NAMES).content for name in _NAMED if settings.get(name)}
        extra = settings.get("extra_special_tokens") or []
        special.update(self._token(value, SPECIAL_NAMES).content for value in (extra if isinstance(extra, list) else []))
        for text, number in files.added.items():
            if type(number) is not int:
                raise files.error(ADDED, f"the id of '{text}' must be a whole number, not {shown(number)}")
            self._added[number] = AddedToken(text, normalized=text not in special, special=text in special)
        listed = files.pipeline.get("added_tokens") or []
        for entry in listed if isinstance(listed, list) else [listed]:
            if not isinstance(entry, dict) or "id" not in entry:
                raise files.error(PIPELINE, f"'added_tokens' has {shown(entry)}, which is no token")
            rest = {name: value for name, value in entry.items() if name != "id"}
            self._added[_number(files, entry["id"])] = self._token(rest, PIPELINE)

    def _token(self, value: Any, name: str, special: bool = False) -> AddedToken:
        try:
            if isinstance(value, str):
                return AddedToken(value, special=special)
            values = {key: part for key, part in value.items() if key != "__type"}
            return AddedToken(values.pop("content"), **{**values, "special": values.get("special", False) or special})
        except (TypeError, AttributeError, LookupError):
            raise self._files.error(name, f"{shown(value)} is no token") from None


def _entries(files: TokenizerFiles, name: str, value: Any) -> List[Tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise files.error(name, f"'added_tokens_decoder' must be a JSON object, not {shown(value)}")
    return list(value.items())


def _number(files: TokenizerFiles, value: Union[str, int]) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise files.error(SETTINGS, f"the id of an added token must be a whole number, not {shown(value)}")
    return number


def _has_segments(files: TokenizerFiles) -> bool:
    usual = [] if files.is_whole or str(files.settings.get("tokenizer_class")).startswith("DistilBert") else ["token_type_ids"]
    names = files.settings.get("model_input_names", usual)
    if not isinstance(names, list):
        raise files.error(SETTINGS, f"'model_input_names' must be a list of names, not {shown(names)}")
    return "token_type_ids" in names


def _refuse_unfollowed(files: TokenizerFiles, special: _Special) -> None:
    for name, harmless in _UNFOLLOWED.items():
        if name in files.settings and files.settings[name] not in harmless:
            raise files.error(SETTINGS, f"'{name}' is {shown(files.settings[name])}, which cannot be followed here")
    never = files.settings.get("never_split") or []
    known = set(map(str, special.named.values()))
    if not isinstance(never, list) or not all(isinstance(word, str) and word in known for word in never):
        raise files.error(SETTINGS, f"'never_split' is {shown(never)}, which cannot be followed here: make added tokens of these words")
