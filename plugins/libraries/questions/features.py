"""From questions to what a model reads: sliding windows of tokens, and the way back from tokens to characters.

``[CLS] question [SEP] window of the context [SEP]``, as BERT's run_squad.py lays them out (Devlin et al., 2018, section
4.2); RoBERTa has two ``</s>`` between the texts. Answers are found among the tokens by the characters each was made of,
not by comparing text.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.articles import LeftOut, Question
from pipeloom.plugins.libraries.text.text_tokenizer import TextTokenizer

#: Number of the first input; the public sets count their ``unique_ids`` from here.
FIRST_UNIQUE_ID = 1000000000

# Tokens of an input that are not text, the separators between the texts not among them: [CLS] question, context [SEP].
_ENDS = 2
# Separators between the texts: BERT's, and the most that a tokenizer puts there.
_SEPARATORS, _MOST_SEPARATORS = 1, 2
_FRAME = _ENDS + _SEPARATORS
_NO_TOKEN = "whose context has no token"
#: Tokens that an input must have for others than the question: those, and one of the context.
LEAST_BESIDE_QUESTION = _FRAME + 1
# A file that speaks of longer inputs is damaged.
_MOST_TOKENS = 1 << 20


def sizes_for(seq_length: int) -> Dict[str, int]:
    """The other sizes for inputs of ``seq_length`` tokens, where nobody says: ``doc_stride`` and ``max_query_length``.

    BERT's 128 and 64; where inputs are too short for these, half of them.
    """
    most = _ENDS + _MOST_SEPARATORS
    longest = 64 if seq_length > 64 + most else max(1, (seq_length - most) // 2)
    return {"doc_stride": max(1, min(128, seq_length // 2)), "max_query_length": longest}


@dataclass(frozen=True)
class FeatureSettings:
    """Sizes in tokens: of an input, from one window of a context to the next, and of a question at most."""

    seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64

    def __post_init__(self) -> None:
        for name in ("doc_stride", "max_query_length"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} is too small; it needs at least 1")
        self.check_room(_SEPARATORS)

    def check_room(self, separators: int) -> None:
        """Raise ``UsageError`` unless a context has room with so many ``separators`` before it."""
        least = _ENDS + separators + 1
        if self.seq_length < self.max_query_length + least:
            room = self.seq_length - least
            shorter = f"--max_query_length {room} at most, or " if room >= 1 else ""
            raise UsageError(
                f"--seq_length {self.seq_length} leaves no room for a context beside --max_query_length "
                f"{self.max_query_length}: give {shorter}--seq_length "
                f"{self.max_query_length + least} at least"
            )


@dataclass(frozen=True)
class Window:
    """The tokens of a context that are in one input.

    ``position`` is the place of the first of them in the input; ``spans`` int32 ``(tokens, 2)`` the characters ``start
    <= i < end`` of the context that each was made of; ``max_context`` bool ``(tokens,)`` whether no other window of the
    question shows more of what stands around it.
    """

    position: int
    spans: np.ndarray
    max_context: np.ndarray


@dataclass(frozen=True)
class Features:
    """The inputs of many questions, question after question, window after window; arrays are made when asked for.

    ``question_ids``: one for each question, which has no input where its context has no token. ``frame``: seq_length,
    the ids of [CLS], [SEP], [PAD], and how many [SEP] stand between the texts. ``context_ids``, ``context_spans``: the
    tokens of all contexts one after another, context c from ``context_starts[c]`` on; ``context_of`` the context of
    each question. ``query_ids``, ``query_starts``: those of the questions. ``windows`` int32 ``(features, 5)``: number
    of the question, first token and number of tokens of the context, and the places of the first and the last token of
    the answer in the input: 0, the [CLS], where the window does not hold all of it, and seq_length, which is outside
    and counts in no loss, where nobody knows them.
    """

    question_ids: List[str]
    frame: np.ndarray
    context_ids: np.ndarray
    context_spans: np.ndarray
    context_starts: np.ndarray
    context_of: np.ndarray
    query_ids: np.ndarray
    query_starts: np.ndarray
    windows: np.ndarray

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def seq_length(self) -> int:
        return int(self.frame[0])

    def question_of(self, index: int) -> int:
        """The number of the question of input ``index``."""
        return int(self.windows[index, 0])

    def of_question(self, number: int) -> range:
        """The inputs of a question."""
        return range(int(self._first_inputs[number]), int(self._first_inputs[number + 1]))

    @cached_property
    def _first_inputs(self) -> np.ndarray:
        """By number of a question its first input, and behind the last one the number of inputs."""
        return np.searchsorted(self.windows[:, 0], np.arange(len(self.question_ids) + 1))

    def inputs(self, index: int) -> Dict[str, np.ndarray]:
        """One input: ``input_ids``, ``input_mask``, ``segment_ids`` int32 ``(seq_length,)``; ``start_positions``,
        ``end_positions``, ``unique_ids`` int32 ``(1,)``.
        """
        question, first, count, start, end = self.windows[index].tolist()
        seq_length, cls_id, sep_id, pad_id, separators = self.frame.tolist()
        query = self.query_ids[self.query_starts[question] : self.query_starts[question + 1]]
        begin = self.context_starts[self.context_of[question]] + first
        length, position = len(query) + count + _ENDS + separators, len(query) + 1 + separators
        input_ids = np.full(seq_length, pad_id, np.int32)
        input_ids[:length] = np.concatenate(
            [[cls_id], query, [sep_id] * separators, self.context_ids[begin : begin + count], [sep_id]]
        )
        places = np.arange(seq_length)
        return {
            "input_ids": input_ids,
            "input_mask": (places < length).astype(np.int32),
            "segment_ids": ((places >= position) & (places < length)).astype(np.int32),
            "start_positions": np.array([start], np.int32),
            "end_positions": np.array([end], np.int32),
            "unique_ids": np.array([FIRST_UNIQUE_ID + index], np.int32),
        }

    def window(self, index: int) -> Window:
        """The tokens of the context in input ``index``; for all of a question ``windows_of`` is quicker."""
        number = self.question_of(index)
        return self.windows_of(number)[index - self.of_question(number).start]

    def windows_of(self, number: int) -> List[Window]:
        """The tokens of the context in each input of a question."""
        inputs = self.of_question(number)
        position = int(self.query_starts[number + 1] - self.query_starts[number]) + 1 + int(self.frame[4])
        start, end = self.context_starts[self.context_of[number] :][:2]
        spans = self.context_spans[start:end]
        places = self.windows[inputs.start : inputs.stop, 1:3].tolist()
        best = _best_windows(places)
        return [
            Window(position, spans[first : first + count], best[first : first + count] == row)
            for row, (first, count) in enumerate(places)
        ]

    def save(self, path: Path) -> None:
        """Writes the npz file that ``load`` reads; the same features give the same bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "question_ids"}
        # Not an array of text: numpy drops zero characters at the end of it.
        ids = np.frombuffer(json.dumps(self.question_ids).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez_compressed(file, question_ids=ids, **arrays)

    @classmethod
    def load(cls, path: Path) -> Features:
        """Raises ``UsageError`` where the file is not one that ``save`` wrote."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if arrays["frame"].shape == (4,):  # made when there was one separator always
                arrays["frame"] = np.append(arrays["frame"], np.int32(_SEPARATORS))
            features = cls(json.loads(arrays.pop("question_ids").tobytes().decode()), **arrays)
            features._check()
            return features
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
        except (
            ValueError,
            LookupError,
            TypeError,
            EOFError,
            RecursionError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise UsageError(f"{path} is damaged ({error}): make the folder again with 'prepare squad'") from None

    def _check(self) -> None:
        """Raises ``ValueError`` where the arrays do not fit together."""
        for name, value in vars(self).items():
            if name != "question_ids" and getattr(value, "dtype", None) not in (np.int32, np.int64):
                raise ValueError(f"{name} is no array of whole numbers")
        questions, tokens = len(self.question_ids), len(self.context_ids)
        shapes = {
            "frame": (5,),
            "context_ids": (tokens,),
            "context_spans": (tokens, 2),
            "context_of": (questions,),
            "query_ids": (self.query_ids.size,),
            "query_starts": (questions + 1,),
            "windows": (len(self), 5),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, not {shape}")
        contexts = len(self.context_starts) - 1
        numbers, first, count, start, end = self.windows.T
        fit: Any = (
            all(isinstance(name, str) for name in self.question_ids)
            and (self.context_spans >= 0).all()
            and _are_starts(self.context_starts, tokens)
            and _are_starts(self.query_starts, len(self.query_ids))
            and _within(self.context_of, contexts)
            and _within(numbers, questions)
            and (np.diff(numbers) >= 0).all()
        )
        if fit:
            room = self.seq_length - _ENDS - int(self.frame[4]) - np.diff(self.query_starts)[numbers]
            length = np.diff(self.context_starts)[self.context_of[numbers]]
            fit = (
                ((first >= 0) & (count > 0) & (count <= room) & (first <= length - count)).all()
                and _within(self.windows[:, 3:], self.seq_length + 1)
                and self.seq_length <= _MOST_TOKENS
                and 1 <= self.frame[4] <= _MOST_SEPARATORS
            )
        if not fit:
            raise ValueError("its arrays do not fit together")


def _are_starts(starts: np.ndarray, total: int) -> bool:
    return (
        starts.ndim == 1
        and len(starts) > 0
        and starts[0] == 0
        and starts[-1] == total
        and bool((np.diff(starts) >= 0).all())
    )


def _within(values: np.ndarray, high: int) -> bool:
    return bool(((values >= 0) & (values < high)).all())


def make_features(
    questions: Sequence[Question],
    tokenizer: TextTokenizer,
    settings: FeatureSettings,
    training: bool,
    left_out: LeftOut,
) -> Features:
    """The inputs of ``questions``.

    Longer questions are cut at ``max_query_length``. For ``training``, ``left_out`` counts questions that there is
    nothing to learn from: a context without tokens, or an answer that no window holds all of. For evaluation all are
    taken; those have no place in the loss, and are counted too.
    """
    builder = _Builder(tokenizer, settings)
    for question in questions:
        reason = builder.add(question, training)
        if reason is not None and (training or question.has_reference or reason == _NO_TOKEN):
            what = "left out" if training else 'answered with ""' if reason == _NO_TOKEN else "not in the loss"
            left_out.add(reason, question.id, what)
    return builder.features()


class _Builder:
    """Collects the arrays of ``Features``. A context that several questions share is tokenized once."""

    def __init__(self, tokenizer: TextTokenizer, settings: FeatureSettings) -> None:
        self._tokenizer, self._settings = tokenizer, settings
        self._separators = tokenizer.separators
        settings.check_room(self._separators)
        self._contexts: Dict[str, int] = {}
        self._tokens: List[Tuple[np.ndarray, np.ndarray]] = []
        self._question_ids: List[str] = []
        self._context_of: List[int] = []
        self._queries: List[np.ndarray] = []
        self._windows: List[Tuple[int, int, int, int, int]] = []

    def add(self, question: Question, training: bool) -> Optional[str]:
        """Take a question. Returns why it cannot be taken, or for evaluation cannot be part of the loss, if so."""
        context = self._context(question.context)
        _, spans = self._tokens[context]
        query = self._tokenizer.encode(question.text)[: self._settings.max_query_length]
        room = self._settings.seq_length - len(query) - _ENDS - self._separators
        windows = _windows(len(spans), room, self._settings.doc_stride)
        places, reason = self._places(question, spans, windows, room, len(query) + 1 + self._separators)
        if training and reason is not None:
            return reason
        number = len(self._question_ids)
        self._question_ids.append(question.id)
        self._context_of.append(context)
        self._queries.append(np.array(query, np.int32))
        self._windows += [(number, begin, count, start, end) for (begin, count), (start, end) in zip(windows, places)]
        return reason

    def _places(
        self, question: Question, spans: np.ndarray, windows: Sequence[Tuple[int, int]], room: int, position: int
    ) -> Tuple[List[Tuple[int, int]], Optional[str]]:
        """For each window where the answer is in its input, and why there is nothing to learn from, if so."""
        if not windows:
            return [], _NO_TOKEN
        if question.impossible:
            return [(0, 0)] * len(windows), None
        outside = [(self._settings.seq_length, self._settings.seq_length)] * len(windows)
        answer = question.answer_in_context()
        if answer is None:
            return outside, question.why_not_in_context()
        first, last = _tokens_of(spans, answer.start, answer.end)
        if first > last:
            return outside, "whose answer has no token"
        places = [
            (first - begin + position, last - begin + position) if begin <= first and last < begin + count else (0, 0)
            for begin, count in windows
        ]
        if any(start for start, _ in places):
            return places, None
        return outside, (
            "whose answer is longer than a window"
            if last - first >= room
            else "whose answer is not whole in any window (a smaller --doc_stride helps)"
        )

    def features(self) -> Features:
        settings = self._settings
        ids, spans = zip(*self._tokens) if self._tokens else ((), ())
        return Features(
            question_ids=self._question_ids,
            frame=np.array([settings.seq_length, *self._frame_ids(), self._separators], np.int32),
            context_ids=_joined(ids),
            context_spans=_joined(spans).reshape(-1, 2),
            context_starts=_starts(ids),
            context_of=np.array(self._context_of, np.int32),
            query_ids=_joined(self._queries),
            query_starts=_starts(self._queries),
            windows=np.array(self._windows, np.int32).reshape(-1, 5),
        )

    def _frame_ids(self) -> Tuple[int, int, int]:
        return self._tokenizer.cls_id, self._tokenizer.sep_id, self._tokenizer.pad_id

    def _context(self, text: str) -> int:
        number = self._contexts.setdefault(text, len(self._tokens))
        if number == len(self._tokens):
            ids, spans = self._tokenizer.encode_with_offsets(text)
            self._tokens.append((np.array(ids, np.int32), np.array(spans, np.int32).reshape(-1, 2)))
        return number


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *(array.reshape(-1) for array in arrays)])


def _starts(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, arrays)], dtype=np.int64)


def _windows(tokens: int, room: int, stride: int) -> List[Tuple[int, int]]:
    """(first token, number of tokens) of each window over a context; the last one ends where the context ends."""
    windows: List[Tuple[int, int]] = []
    begin = 0
    while tokens:
        count = min(tokens - begin, room)
        windows.append((begin, count))
        if begin + count == tokens:
            break
        begin += min(count, stride)
    return windows


def _tokens_of(spans: np.ndarray, start: int, end: int) -> Tuple[int, int]:
    """The first and the last token with a character in ``start <= i < end``; first > last where there is none."""
    return int(np.searchsorted(spans[:, 1], start, side="right")), int(
        np.searchsorted(spans[:, 0], end, side="left")
    ) - 1


def _best_windows(windows: Sequence[Sequence[int]]) -> np.ndarray:
    """For each token of a context the window with most context around it, ``(tokens,)``.

    run_squad.py's rule: the smaller one of what stands left and right of it, and 0.01 times the length of the window;
    the first one where two are equal.
    """
    size = max((begin + count for begin, count in windows), default=0)
    best, most = np.zeros(size, np.int64), np.full(size, -1.0)
    for number, (begin, count) in enumerate(windows):  # each looks at its own tokens: a context may have many windows
        places = np.arange(count)
        around = np.minimum(places, count - 1 - places) + 0.01 * count
        better = around > most[begin : begin + count]
        best[begin : begin + count][better] = number
        most[begin : begin + count][better] = around[better]
    return best
