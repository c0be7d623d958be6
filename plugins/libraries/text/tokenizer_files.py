"""The tokenizer files of a HuggingFace folder, and the tokenizer that transformers makes of them.

``vocab.txt``, ``tokenizer.json``, ``tokenizer_config.json`` and two older ones. What counts where they say different
things is what counts in transformers 5: its BertTokenizer takes the tokens from tokenizer.json (else vocab.txt) and
everything else from tokenizer_config.json; its TokenizersBackend (once PreTrainedTokenizerFast) takes tokenizer.json
as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

from pipeloom.core.base.errors import UsageError, shown, similar_path

VOCABULARY, PIPELINE, SETTINGS = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
SPECIAL_NAMES, ADDED = "special_tokens_map.json", "added_tokens.json"
FILES = (VOCABULARY, PIPELINE, SETTINGS, SPECIAL_NAMES, ADDED)

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
        #: Whether tokenizer.json alone is the tokenizer.
        self.is_whole = self._is_whole()

    @classmethod
    def read(cls, path: Union[str, Path], lowercase: Optional[bool] = None) -> TokenizerFiles:
        """Those of ``path``: a folder, or one file: a vocab.txt or a tokenizer.json.

        ``lowercase``: as of ``with_lowercase``; ``None``: as they say.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            content = {name: _read(path / name) for name in FILES if (path / name).is_file()}
            if not has_tokens(path):
                raise UsageError(f"{path} has no tokenizer: neither {VOCABULARY} nor {PIPELINE}")
            files = cls(content, str(path), _class_in_config(path))
        else:
            data = _read(path)
            if data.lstrip()[:1] == b"{" or data.startswith(b"\xef\xbb\xbf{"):
                files = cls({PIPELINE: data}, str(path), _WHOLE[0])
            else:
                files = cls({VOCABULARY: data}, str(path))
        return files if lowercase is None else files.with_lowercase(lowercase)

    @property
    def lowercase(self) -> Optional[bool]:
        """Whether text is turned into small letters; ``None`` where the files leave that open."""
        if self.is_whole:
            return self._normalizer().get("lowercase")
        return self.flag("do_lower_case") if "do_lower_case" in self.settings else None

    def with_lowercase(self, lowercase: bool) -> TokenizerFiles:
        """These files, changed to say ``lowercase``."""
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

    def _is_whole(self) -> bool:
        name = self.settings.get("tokenizer_class") or _BERT[0]
        if not isinstance(name, str):
            raise self.error(SETTINGS, f"'tokenizer_class' must be text, not {shown(name)}")
        if name in _WHOLE and PIPELINE not in self._content:
            raise self.error(SETTINGS, f"its tokenizer is a {name}, which is made from {PIPELINE}, and there is none")
        if name not in _WHOLE and (name[: -len("Fast")] if name.endswith("Fast") else name) not in _BERT:
            raise self.error(
                SETTINGS,
                f"its tokenizer is a {name}; what can be followed is a BertTokenizer, or a "
                f"{_WHOLE[0]}, of which {PIPELINE} says everything",
            )
        return name in _WHOLE

    def flag(self, name: str) -> bool:
        """``name`` in tokenizer_config.json, true where it is absent."""
        value = self.settings.get(name, True)
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
                raise self.error(PIPELINE, "it has no WordPiece vocabulary")
            return ids
        return self.lines()

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
    return any((folder / name).is_file() for name in (VOCABULARY, PIPELINE))


def _class_in_config(folder: Path) -> Optional[str]:
    """The class of the tokenizer that an older config.json names. What is wrong with that file others say."""
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))["tokenizer_class"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the vocabulary {path}: {error.strerror or error}{similar_path(path)}") from error


def _bytes(content: Mapping[str, Any]) -> bytes:
    # Halves of characters, which JSON can name and UTF-8 cannot, stay escapes.
    return (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
