"""WordPiece: training a vocabulary, keeping it as vocab.txt, turning sentences into token ids."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Optional, Sequence, Set, Tuple, Union

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from pipeloom.core.errors import UsageError

#: The special tokens. A trained vocabulary has them at ids 0 to 4; a loaded one may have them anywhere.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_CONTINUING = "##"
# As in BERT's own code: a longer run of characters is no word and becomes [UNK].
_MAX_WORD_CHARACTERS = 100


class WordPieceTokenizer:
    """BERT's tokenizer: splits at spaces and punctuation, then into the longest known pieces of a word.

    ``tokens[i]`` is the token with id ``i``. Raises ``UsageError`` where a special token is missing or a
    token stands twice; ``source`` says in that line where the vocabulary came from.
    """

    def __init__(self, tokens: Sequence[str], lowercase: bool = True, source: str = "the vocabulary") -> None:
        self.tokens = list(tokens)
        ids = {token: index for index, token in enumerate(self.tokens)}
        missing = [token for token in SPECIAL_TOKENS if token not in ids]
        if missing:
            raise UsageError(f"{source} has no {', '.join(missing)}; a WordPiece vocabulary has "
                             f"{' '.join(SPECIAL_TOKENS)}, one token a line")
        if len(ids) < len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise UsageError(f"{source} has the token '{twice}' twice; each may stand there once")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (ids[token] for token in SPECIAL_TOKENS)
        model = models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix=_CONTINUING,
                                 max_input_chars_per_word=_MAX_WORD_CHARACTERS)
        self._tokenizer = _pipeline(model, lowercase)

    @classmethod
    def load(cls, path: Union[str, Path], lowercase: bool = True) -> WordPieceTokenizer:
        """Reads a vocab.txt: UTF-8, one token a line, the line's number from 0 is its id."""
        try:
            # Not splitlines(): that also splits at characters that are tokens, such as U+2028.
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not UTF-8 text; give a vocab.txt, one token a line") from None
        except OSError as error:
            raise UsageError(f"cannot read the vocabulary {path}: {error.strerror or error}") from error
        if lines[-1] == "":
            lines.pop()
        return cls(lines, lowercase, source=str(path))

    def to_json(self) -> str:
        """The tokenizer as the ``tokenizers`` library writes it (``tokenizer.json``), without any special tokens around a text."""
        return self._tokenizer.to_str()

    def save(self, path: Union[str, Path]) -> None:
        """Writes the vocab.txt that ``load`` reads."""
        Path(path).write_text("".join(token + "\n" for token in self.tokens), encoding="utf-8")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special_ids(self) -> List[int]:
        """The ids of ``SPECIAL_TOKENS``, in that order."""
        return [self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id]

    @property
    def continuing(self) -> List[bool]:
        """By id, whether the token goes on with a word that another one began."""
        return [token.startswith(_CONTINUING) for token in self.tokens]

    def encode(self, text: str) -> List[int]:
        """The ids of a sentence, without [CLS] and [SEP]. Text cannot produce special tokens but [UNK]."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_with_offsets(self, text: str) -> Tuple[List[int], List[Tuple[int, int]]]:
        """``encode``, and for each token the characters ``start <= i < end`` of ``text`` that it was made of."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        """``encode`` of many sentences at once."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@dataclass(frozen=True)
class Characters:
    """How often each character is in a text, as the tokenizer sees it, and which of them are not only at the beginning
    of words."""

    counts: Counter
    continuing: Set[str]

    def pieces(self, kept: Sequence[str]) -> List[str]:
        """The pieces of one character each that a vocabulary of ``kept`` has."""
        return [*kept, *(_CONTINUING + character for character in kept if character in self.continuing)]

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
    tokenizer = _pipeline(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=_CONTINUING), lowercase)
    counts: Counter = Counter()
    continuing: Set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            counts.update(word)
            continuing.update(word[1:])
    return Characters(counts, continuing)


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = True, min_frequency: int = 2,
                    limit_alphabet: Optional[int] = None,
                    characters: Optional[Characters] = None) -> WordPieceTokenizer:
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
    tokenizer = _pipeline(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=_CONTINUING), lowercase)
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=first,
                                        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
                                        continuing_subword_prefix=_CONTINUING, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return WordPieceTokenizer(sorted(ids, key=ids.__getitem__), lowercase)


def _pipeline(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
