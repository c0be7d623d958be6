"""WordPiece: training a vocabulary, keeping it as vocab.txt, turning sentences into token ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Optional, Sequence, Set, Union

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.special_tokens import ROLES
from pipeloom.plugins.libraries.text.text_tokenizer import TextTokenizer
from pipeloom.plugins.libraries.text.tokenizer_building import CONTINUING, Built, build, from_tokens
from pipeloom.plugins.libraries.text.tokenizer_files import TokenizerFiles

#: The special tokens. A trained vocabulary has them at ids 0 to 4; a loaded one may have them anywhere, and others
#: for them.
SPECIAL_TOKENS = tuple(ROLES.values())


class WordPieceTokenizer(TextTokenizer):
    """BERT's tokenizer: splits at spaces and punctuation, then into the longest known pieces of a word."""

    def __init__(self, built: Built, source: str, special_in_text: bool = False) -> None:
        if built.continuing is None:
            raise UsageError(f"{source}: its tokens are those of BPE; WordPieces are needed here")
        super().__init__(built, source, special_in_text)
        self._continuing = built.continuing

    @classmethod
    def load(
        cls, path: Union[str, Path], lowercase: Optional[bool] = None, special_in_text: bool = False
    ) -> WordPieceTokenizer:
        """The tokenizer of ``path``: a HuggingFace folder, its tokenizer.json, or a vocab.txt (UTF-8, one token a
        line, the line's number from 0 is its id).

        ``lowercase``: whether text is turned into small letters; ``None``: as the files say, and else it is.
        ``special_in_text``: whether "[MASK]" in a text is that token, as in transformers; else text produces no special
        token but [UNK]. Raises ``UsageError`` where there is none, or one that cannot be followed.
        """
        files = TokenizerFiles.read(path, lowercase)
        return cls(build(files), files.source, special_in_text)

    @classmethod
    def of(cls, tokens: Sequence[str], lowercase: bool = True) -> WordPieceTokenizer:
        """The tokenizer of a list of tokens."""
        return cls(from_tokens(tokens, lowercase), "the vocabulary")

    def to_json(self) -> str:
        """The content of a ``tokenizer.json``, which puts [CLS] and [SEP] around texts."""
        whole = Tokenizer.from_str(self._tokenizer.to_str())
        cls, sep = self.tokens[self.cls_id], self.tokens[self.sep_id]
        whole.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, self.cls_id), (sep, self.sep_id)],
        )
        whole.decoder = decoders.WordPiece(prefix=self._continuing)
        return whole.to_str(pretty=True)

    def save(self, path: Union[str, Path]) -> None:
        """Writes the vocab.txt that ``load`` reads."""
        Path(path).write_text("".join(token + "\n" for token in self.tokens), encoding="utf-8")

    @property
    def continuing(self) -> List[bool]:
        """By id, whether the token goes on with a word that another one began."""
        return [token.startswith(self._continuing) for token in self.tokens]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, as the tokens spell it; special tokens are left out."""
        decoder = decoders.WordPiece(prefix=self._continuing)
        return decoder.decode([self.tokens[number] for number in ids if number not in self._roles.values()])


@dataclass(frozen=True)
class Characters:
    """How often each character is in a text, as the tokenizer sees it, and which of them are not only at the beginning
    of words."""

    counts: Counter
    continuing: Set[str]

    def pieces(self, kept: Sequence[str]) -> List[str]:
        """The pieces of one character each that a vocabulary of ``kept`` has."""
        return [*kept, *(CONTINUING + character for character in kept if character in self.continuing)]

    def is_rare(self, character: str) -> bool:
        """Whether it is less than a millionth of the text."""
        return self.counts[character] * _RAREST < sum(self.counts.values())

    def chosen(self, room: int, limit: Optional[int] = None) -> List[str]:
        """The ``limit`` most frequent characters, sorted; ``None``: all, if their pieces are not more than a quarter of
        ``room``, else all that make up a millionth of the text.

        Where the pieces of these are more than ``room``, the rarest ones are given up as long as what stays covers
        99.95 % of the text (the ``character_coverage`` of SentencePiece; Kudo and Richardson, 2018).
        """
        counts, total = self.counts, sum(self.counts.values())
        kept = sorted(counts, key=lambda character: (-counts[character], character))[:limit]
        if limit is None and 4 * len(self.pieces(kept)) > room:
            kept = [character for character in kept if counts[character] * _RAREST >= total]
            spare = total * (1 - _COVERAGE) - sum(counts[character] for character in counts.keys() - set(kept))
            size = len(self.pieces(kept))
            while kept and size > room and counts[kept[-1]] <= spare:
                spare -= counts[kept[-1]]
                size -= 1 + (kept.pop() in self.continuing)
        return sorted(kept)


#: Of so many characters one may be rarer than all others that have a place in a vocabulary.
_RAREST = 1_000_000
_COVERAGE = 0.9995


def count_characters(texts: Iterable[str], lowercase: bool = True) -> Characters:
    """The characters of ``texts`` after normalization, without the spaces between words."""
    tokenizer = _pipeline(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=CONTINUING), lowercase)
    counts: Counter = Counter()
    continuing: Set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            counts.update(word)
            continuing.update(word[1:])
    return Characters(counts, continuing)


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    lowercase: bool = True,
    min_frequency: int = 2,
    limit_alphabet: Optional[int] = None,
    characters: Optional[Characters] = None,
) -> WordPieceTokenizer:
    """A vocabulary of at most ``vocab_size`` pieces, trained on ``texts``; the same text gives the same one.

    ``texts`` is walked once, and before that once for ``characters``, where they are not given, so a generator will not
    do. Of its characters those of ``Characters.chosen`` are kept, and a longer piece must occur ``min_frequency``
    times. Raises ``UsageError`` where ``vocab_size`` does not even hold the characters.
    """
    characters = count_characters(texts, lowercase) if characters is None else characters
    # The trainer numbers the one-character pieces in the order in which it meets the words in a hash table
    # with a random seed, and breaks ties between merges by those numbers: two runs differ. So these pieces
    # are found here, and handed to it in a fixed order ahead of everything else.
    alphabet = characters.chosen(vocab_size - len(SPECIAL_TOKENS), limit_alphabet)
    first = [*SPECIAL_TOKENS, *characters.pieces(alphabet)]
    if vocab_size < len(first):
        raise UsageError(
            f"a vocabulary of {vocab_size} tokens is too small for the {len(first)} special tokens and "
            f"most frequent characters of the text: give at least {len(first)}, or keep fewer characters "
            "with --limit_alphabet"
        )
    tokenizer = _pipeline(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=CONTINUING), lowercase)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUING,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return WordPieceTokenizer.of(sorted(ids, key=ids.__getitem__), lowercase)


def _pipeline(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
