"""The tokens that are found in a text before it is split into words: those with a role, and added ones."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

from tokenizers import AddedToken, Tokenizer

from pipeloom.core.base.errors import UsageError, shown
from pipeloom.plugins.libraries.text.tokenizer_files import (
    ADDED,
    PIPELINE,
    SETTINGS,
    SPECIAL_NAMES,
    VOCABULARY,
    TokenizerFiles,
)

#: What a model needs a token for, and its usual name.
ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
#: The roles that a tokenizer of any kind may have tokens for.
ALL_ROLES = (*ROLES, "bos", "eos")

# The settings that name one token each, in the order in which those that the vocabulary lacks get their ids.
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class SpecialTokens:
    """Those that tokenizer files name, as transformers 5 reads them. Raises ``UsageError``."""

    def __init__(self, files: TokenizerFiles) -> None:
        self._files = files
        settings = dict(files.settings)
        if settings.get("additional_special_tokens") and not settings.get("extra_special_tokens"):
            settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
        self._added: Dict[int, AddedToken] = {}
        if "added_tokens_decoder" in settings:
            self._added = {
                _number(files, number): self._token(token, SETTINGS)
                for number, token in _entries(files, SETTINGS, settings["added_tokens_decoder"])
            }
        else:
            settings.update(files.special_names)
            self._read_older(settings)
        by_text = {token.content: token for token in self._added.values()}
        # Models of several kinds of data have names of their own, such as image_token.
        others = [
            name
            for name, value in settings.items()
            if name.endswith("_token") and name not in _NAMED and isinstance(value, (str, dict))
        ]
        usual = files.usual_tokens
        self.named: Dict[str, Union[str, AddedToken]] = {}
        for name in (*_NAMED, *others):
            value = settings.get(name, usual.get(name))
            if value is not None:
                token = self._token(value, SETTINGS, special=True)
                self.named[name] = by_text.get(token.content, value if isinstance(value, str) else token)
        extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
        if isinstance(extra, dict):
            extra = list(extra.values())
        if not isinstance(extra, list):
            raise files.error(SETTINGS, f"'extra_special_tokens' must be a list of tokens, not {shown(extra)}")
        self._extra = [
            value if isinstance(value, str) else self._token(value, SETTINGS, special=True) for value in extra
        ]
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
        there = list(engine.get_added_tokens_decoder().values())
        known = set(map(repr, there))
        added = [self._added[number] for number in sorted(self._added) if repr(self._added[number]) not in known]
        roles = set(map(str, self.named.values()))
        for own in added:
            own.special = own.special or own.content in roles
        tokens: List[Union[str, AddedToken]] = [*added]
        texts = {*map(str, there), *map(str, tokens)}
        for token in (*self.named.values(), *self._extra):
            # A text does not equal a token of that text: then both are added, and the last one counts.
            if str(token) not in texts and token not in tokens:
                tokens.append(token)
        engine.add_tokens([AddedToken(token, special=True) if isinstance(token, str) else token for token in tokens])
        engine.encode_special_tokens = self._split
        taken = set(ids.values())
        for number, token in engine.get_added_tokens_decoder().items():
            if token.content not in ids and number in taken:
                raise UsageError(
                    f"{self._files.source}: the added token '{token.content}' gets the id {number}, which "
                    f"another token has: a token stands twice in {VOCABULARY}"
                )
        for number, token in self._added.items():
            taken_id = engine.token_to_id(token.content)
            if taken_id != number:
                notes.append(
                    f"{self._files.source}: the added token '{token.content}' has the id {taken_id}, as in "
                    f"transformers, and not {number}, as its files say"
                )

    def _read_older(self, settings: Dict[str, Any]) -> None:
        """What counts where tokenizer_config.json has no 'added_tokens_decoder'."""
        files = self._files
        special = {
            self._token(settings[name], SPECIAL_NAMES if name in files.special_names else SETTINGS).content
            for name in _NAMED
            if settings.get(name)
        }
        extra = settings.get("extra_special_tokens") or []
        special.update(self._token(value, SETTINGS).content for value in (extra if isinstance(extra, list) else []))
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
            flags = {key: value[key] for key in _FLAGS if key in value}
            return AddedToken(value["content"], **{**flags, "special": flags.get("special", False) or special})
        except (TypeError, ValueError, AttributeError, LookupError):
            raise self._files.error(name, f"{shown(value)} is no token") from None


def _entries(files: TokenizerFiles, name: str, value: Any) -> List[Tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise files.error(name, f"'added_tokens_decoder' must be a JSON object, not {shown(value)}")
    return list(value.items())


def _number(files: TokenizerFiles, value: Union[str, int]) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0:
        raise files.error(SETTINGS, f"the id of an added token must be a whole number, not {shown(value)}")
    return number
