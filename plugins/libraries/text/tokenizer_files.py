"""The tokenizer files of a HuggingFace folder, and the tokenizer that transformers makes of them.

``vocab.txt``, or ``vocab.json`` and ``merges.txt``; ``tokenizer.json``, ``tokenizer_config.json`` and two older ones.
What counts where they say different things is what counts in transformers 5: its BertTokenizer, GPT2Tokenizer and
RobertaTokenizer take the tokens from tokenizer.json (else from the other files) and everything else from
tokenizer_config.json; its TokenizersBackend (once PreTrainedTokenizerFast) takes tokenizer.json as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from pipeloom.core.base.errors import UsageError, shown, similar_path

VOCABULARY, PIPELINE, SETTINGS = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
#: Those of byte-level BPE: the tokens by their ids, and which pairs of tokens become one, in their order.
BYTE_VOCABULARY, MERGES = "vocab.json", "merges.txt"
SPECIAL_NAMES, ADDED = "special_tokens_map.json", "added_tokens.json"
FILES = (VOCABULARY, BYTE_VOCABULARY, MERGES, PIPELINE, SETTINGS, SPECIAL_NAMES, ADDED)

# Other names that transformers has for BertTokenizer, and those of the tokenizers that are tokenizer.json alone.
_BERT = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MobileBertTokenizer",
    "LayoutLMTokenizer",
    "SqueezeBertTokenizer",
    "LxmertTokenizer",
)
_WHOLE = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: The classes of byte-level BPE, with the tokens that have a role where no file says otherwise.
_GPT2 = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_BYTE_BPE = {
    "GPT2Tokenizer": _GPT2,
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "LongformerTokenizer": _ROBERTA,
}
_BERT_ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# The class for a folder whose config.json names none.
_BY_MODEL = {"gpt2": "GPT2Tokenizer", "roberta": "RobertaTokenizer"}
#: What the tokens are: WordPieces by BERT's rules, byte-level BPE by GPT-2's, or what tokenizer.json alone says.
BERT, BYTE_BPE, WHOLE = "bert", "byte_bpe", "whole"
# What Unicode calls White_Space; str.rstrip() takes off more.
_WHITESPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


class TokenizerFiles:
    """Tokenizer files by name. ``source`` is where they are from, for messages. Raises ``UsageError`` where one
    cannot be followed."""

    def __init__(self, content: Mapping[str, bytes], source: str, tokenizer_class: Optional[str] = None) -> None:
        self.source = source
        self._content = {name: data[3:] if data.startswith(b"\xef\xbb\xbf") else data for name, data in content.items()}
        #: The content of tokenizer_config.json.
        self.settings: Dict[str, Any] = self._json(SETTINGS)
        #: That of special_tokens_map.json and of added_tokens.json.
        self.special_names, self.added = self._json(SPECIAL_NAMES), self._json(ADDED)
        if tokenizer_class is not None and self.settings.get("tokenizer_class") is None:
            self.settings["tokenizer_class"] = tokenizer_class
            self._content[SETTINGS] = _bytes(self.settings)
        #: The content of tokenizer.json, ``{}`` without one.
        self.pipeline: Dict[str, Any] = self._json(PIPELINE)
        #: ``BERT``, ``BYTE_BPE`` or ``WHOLE``.
        self.kind = self._kind()

    @classmethod
    def read(cls, path: Union[str, Path], lowercase: Optional[bool] = None) -> TokenizerFiles:
        """Those of ``path``: a folder, or one file: a vocab.txt or a tokenizer.json.

        ``lowercase``: as of ``with_lowercase``; ``None``: as they say.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            content = {name: _read(path / name) for name in FILES if (path / name).is_file()}
            if not has_tokens(path):
                raise UsageError(f"{path} has no tokenizer: neither {VOCABULARY} nor {BYTE_VOCABULARY} nor {PIPELINE}")
            files = cls(content, str(path), _class_in_config(path))
        else:
            data = _read(path)
            if path.name == BYTE_VOCABULARY:
                files = cls({BYTE_VOCABULARY: data, MERGES: _read(path.with_name(MERGES))}, str(path))
            elif data.lstrip()[:1] == b"{" or data.startswith(b"\xef\xbb\xbf{"):
                files = cls({PIPELINE: data}, str(path), _WHOLE[0])
            else:
                files = cls({VOCABULARY: data}, str(path))
        return files if lowercase is None else files.with_lowercase(lowercase)

    @property
    def is_whole(self) -> bool:
        """Whether tokenizer.json alone is the tokenizer."""
        return self.kind == WHOLE

    def class_for(self, model_type: Any) -> str:
        """The class of transformers for these files, of a model of that type where they say none."""
        named = self.settings.get("tokenizer_class")
        usual = _BY_MODEL.get(str(model_type)) if self.kind == BYTE_BPE else None
        return str(named or usual or self._usual_class())

    @property
    def usual_tokens(self) -> Dict[str, str]:
        """The tokens with a role (``eos_token``) where no file says otherwise."""
        if self.kind == BERT:
            return _BERT_ROLES
        if self.kind == WHOLE:
            return {}
        name = self.settings.get("tokenizer_class")
        if name is not None:
            return _BYTE_BPE[_without_fast(name)]
        # Of a vocabulary alone, as 'prepare vocab' makes one: what it has.
        known = self.vocabulary()
        there = {role: text for role, text in _ROBERTA.items() if text in known}
        ends = {} if "eos_token" in there and _GPT2["eos_token"] not in known else {"eos_token": _GPT2["eos_token"]}
        return {**there, **ends}

    @property
    def lowercase(self) -> Optional[bool]:
        """Whether text is turned into small letters; ``None`` where the files leave that open."""
        if self.kind == BYTE_BPE:
            return False
        if self.is_whole:
            return self._normalizer().get("lowercase")
        return self.flag("do_lower_case") if "do_lower_case" in self.settings else None

    def with_lowercase(self, lowercase: bool) -> TokenizerFiles:
        """These files, changed to say ``lowercase``."""
        if self.kind == BYTE_BPE and lowercase:
            raise UsageError(f"--lowercase has no effect on {self.source}: byte-level BPE keeps text; leave it out")
        if self.kind == BYTE_BPE:
            return self
        if self.is_whole:
            if self._normalizer().get("lowercase") == lowercase:
                return self
            if not self._normalizer():
                raise UsageError(
                    f"--lowercase has no effect on {self.source}: its {PIPELINE} says by itself how text "
                    "is normalized; leave it out"
                )
            changed = {**self.pipeline, "normalizer": {**self._normalizer(), "lowercase": lowercase}}
            return TokenizerFiles({**self._content, PIPELINE: _bytes(changed)}, self.source)
        if self.lowercase == lowercase:
            return self
        settings = {**self.settings, "do_lower_case": lowercase}
        return TokenizerFiles({**self._content, SETTINGS: _bytes(settings)}, self.source)

    def _normalizer(self) -> Dict[str, Any]:
        """That of tokenizer.json where it is BERT's."""
        found = self.pipeline.get("normalizer")
        return found if isinstance(found, dict) and found.get("type") == "BertNormalizer" else {}

    def content(self) -> Dict[str, bytes]:
        """The files by name, as they are, without byte-order marks."""
        return dict(self._content)

    def _kind(self) -> str:
        name = self.settings.get("tokenizer_class") or self._usual_class()
        if not isinstance(name, str):
            raise self.error(SETTINGS, f"'tokenizer_class' must be text, not {shown(name)}")
        if name in _WHOLE and PIPELINE not in self._content:
            raise self.error(SETTINGS, f"its tokenizer is a {name}, which is made from {PIPELINE}, and there is none")
        plain = _without_fast(name)
        kind = WHOLE if name in _WHOLE else BERT if plain in _BERT else BYTE_BPE if plain in _BYTE_BPE else ""
        if not kind:
            raise self.error(
                SETTINGS,
                f"its tokenizer is a {name}; what can be followed is a BertTokenizer, a GPT2Tokenizer, a "
                f"RobertaTokenizer, or a {_WHOLE[0]}, of which {PIPELINE} says everything",
            )
        if kind == BYTE_BPE and PIPELINE not in self._content and not {BYTE_VOCABULARY, MERGES} <= set(self._content):
            half = MERGES in self._content or BYTE_VOCABULARY in self._content
            there = "one of them is missing" if half else "there is none"
            raise UsageError(
                f"{self.source}: its tokenizer is a {name}, which is made from {BYTE_VOCABULARY} and {MERGES}, "
                f"and {there}"
            )
        return kind

    def _usual_class(self) -> str:
        """The class of the tokenizer where no file names one."""
        if VOCABULARY in self._content:
            return _BERT[0]
        if BYTE_VOCABULARY in self._content:
            return "GPT2Tokenizer"
        model = self.pipeline.get("model")
        return _WHOLE[0] if isinstance(model, dict) and model.get("type") == "BPE" else _BERT[0]

    def flag(self, name: str, default: bool = True) -> bool:
        """``name`` in tokenizer_config.json, ``default`` where it is absent."""
        value = self.settings.get(name, default)
        if not isinstance(value, bool):
            raise self.error(SETTINGS, f"'{name}' must be true or false, not {shown(value)}")
        return value

    def vocabulary(self) -> Dict[str, int]:
        """The ids of the tokens, those that were added later not among them.

        Of a token that stands twice in vocab.txt the last one counts; white space after a token belongs to none.
        """
        if PIPELINE in self._content:
            model = self.pipeline.get("model")
            ids = model.get("vocab") if isinstance(model, dict) else None
            if not isinstance(ids, dict) or not all(type(number) is int and number >= 0 for number in ids.values()):
                what = "WordPiece" if self.kind == BERT else "BPE"
                raise self.error(PIPELINE, f"it has no {what} vocabulary")
            return ids
        if self.kind == BYTE_BPE:
            ids = self._json(BYTE_VOCABULARY)
            if not ids or not all(type(number) is int and number >= 0 for number in ids.values()):
                raise self.error(BYTE_VOCABULARY, "it must have an id, a whole number, for each token")
            return ids
        return self.lines()

    def merges(self) -> List[Tuple[str, str]]:
        """The pairs of tokens that become one, the first to be made first."""
        if PIPELINE in self._content:
            model = self.pipeline.get("model")
            found = model.get("merges") if isinstance(model, dict) else None
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in found or []]
            name = PIPELINE
        else:
            try:
                lines = self._content[MERGES].decode("utf-8").split("\n")
            except UnicodeDecodeError:
                raise self.error(MERGES, "it is not UTF-8 text") from None
            pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
            name = MERGES
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(token, str) for token in pair):
                raise self.error(name, f"{shown(pair)} is no pair of tokens")
        return [(first, second) for first, second in pairs]

    def lines(self) -> Dict[str, int]:
        """The tokens of vocab.txt by their lines."""
        try:
            text = self._content[VOCABULARY].decode("utf-8")
        except UnicodeDecodeError:
            place = self._place(VOCABULARY)
            raise UsageError(f"{place} is not UTF-8 text; give a vocab.txt, one token a line") from None
        # Not splitlines(): that also splits at characters inside of tokens, such as U+2028.
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        return {line.rstrip(_WHITESPACE): number for number, line in enumerate(lines)}

    def error(self, name: str, text: str) -> UsageError:
        """The one line about something wrong with the file ``name``."""
        return UsageError(f"{self._place(name)}: {text}")

    def _place(self, name: str) -> str:
        return f"{self.source}/{name}" if Path(self.source).is_dir() else self.source

    def _json(self, name: str) -> Dict[str, Any]:
        if name not in self._content:
            return {}
        try:
            content = json.loads(self._content[name].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise self.error(name, f"it is no JSON file ({error})") from None
        if not isinstance(content, dict):
            raise self.error(name, f"it must be a JSON object, not a {type(content).__name__}")
        return content


def has_tokens(folder: Path) -> bool:
    """Whether a folder has a tokenizer."""
    return any((folder / name).is_file() for name in (VOCABULARY, BYTE_VOCABULARY, PIPELINE))


def _class_in_config(folder: Path) -> Optional[str]:
    """The class of the tokenizer that config.json names, or that its model has. What is wrong with that file others
    say.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
        usual = None if (folder / VOCABULARY).is_file() else _BY_MODEL.get(config.get("model_type"))
        name = config.get("tokenizer_class") or usual
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _without_fast(name: str) -> str:
    return name[: -len("Fast")] if name.endswith("Fast") else name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the vocabulary {path}: {error.strerror or error}{similar_path(path)}") from error


def _bytes(content: Mapping[str, Any]) -> bytes:
    # Halves of characters, which JSON can name and UTF-8 cannot, stay escapes.
    return (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
