"""Raw SQuAD: the JSON files of versions 1.1 and 2.0, read and validated.

``{"version", "data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text",
"answer_start"}], "is_impossible"}]}]}]}``; offsets count characters (code points). Rajpurkar et al., 2016 and 2018.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Type, Union

from pipeloom.core.errors import UsageError, similar_path

# Of how many questions a report gives the ids, for each reason.
_SHOWN = 5


@dataclass(frozen=True)
class Answer:
    """A reference answer: ``text`` stands in the context at the character ``start``."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after the answer."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question about a context. One that is ``impossible`` has no answer there; a question of a user has none that is known."""

    id: str
    text: str
    context: str
    answers: Tuple[Answer, ...] = ()
    impossible: bool = False

    def answer_in_context(self) -> Optional[Answer]:
        """The first of the answers that stands where it says."""
        return next((answer for answer in self.answers if answer.text.strip() and answer.start >= 0
                     and self.context[answer.start : answer.end] == answer.text), None)


class LeftOut:
    """Questions that are not used: for each reason how many, and the ids of the first ones."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = {}
        self._first: Dict[str, List[str]] = {}

    def add(self, reason: str, question_id: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        first = self._first.setdefault(reason, [])
        if len(first) < _SHOWN:
            first.append(question_id)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> List[str]:
        """One line for each reason, with the ids of the first questions."""
        return [f"{count} question{'s' if count > 1 else ''} left out, {reason}: {', '.join(self._first[reason])}"
                f"{', ...' if count > _SHOWN else ''}" for reason, count in self.counts.items()]


@dataclass(frozen=True)
class Articles:
    """The questions of a file. ``version_2``: some may have no answer, and the rules of SQuAD 2.0 hold."""

    questions: List[Question]
    version_2: bool
    left_out: LeftOut


def read_articles(path: Union[str, Path], training: bool) -> Articles:
    """The questions of a raw SQuAD file, in its order.

    A single question that cannot be used is left out and counted; for ``training`` also one without an answer at its
    offset, which evaluation does not need. Raises ``UsageError`` naming the file and the place in it where the
    structure is wrong, and where no question is left.
    """
    path = Path(path).expanduser()
    content = _read_json(path)
    reader = _Reader(path, training)
    questions = list(reader.questions(content))
    if not questions:
        why = reader.left_out.lines()
        raise UsageError(f"{path} has no question to use{': ' + '; '.join(why) if why else ''}; give a SQuAD file with questions")
    version_2 = str(content.get("version", "")).lstrip("v").startswith("2") or any(question.impossible for question in questions)
    return Articles(questions, version_2, reader.left_out)


def _read_json(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no file {path}{similar_path(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if not data.strip():
        raise UsageError(f"{path} is empty; give a SQuAD JSON file, for instance train-v1.1.json")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; give a SQuAD JSON file") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); give a SQuAD JSON file, or copy it again") from None


class _Reader:
    """Walks through the content of one file and knows where it is."""

    def __init__(self, path: Path, training: bool) -> None:
        self._path, self._training = path, training
        self.left_out = LeftOut()
        self._seen: Set[str] = set()

    def questions(self, content: Any) -> Iterator[Question]:
        for place, article in self._items(content, "", "data"):
            for place, paragraph in self._items(article, place, "paragraphs"):
                context = self._value(paragraph, place, "context", str) if "context" in paragraph else ""
                for place, entry in self._items(paragraph, place, "qas"):
                    question = self._question(entry, place, context)
                    reason = self._why_not(question)
                    if reason is None:
                        self._seen.add(question.id)
                        yield question
                    else:
                        self.left_out.add(reason, question.id)

    def _question(self, entry: Any, place: str, context: str) -> Question:
        impossible = self._value(entry, place, "is_impossible", bool) if "is_impossible" in entry else False
        answers = []
        if not impossible:    # those of an impossible question are named "plausible_answers", and are none
            for answer_place, answer in self._items(entry, place, "answers"):
                answers.append(Answer(self._value(answer, answer_place, "text", str), self._value(answer, answer_place, "answer_start", int)))
        question_id = self._value(entry, place, "id", str)
        return Question(question_id, self._value(entry, place, "question", str), context, tuple(answers), impossible)

    def _why_not(self, question: Question) -> Optional[str]:
        """The reason for which a question cannot be used."""
        if question.id in self._seen:
            return "whose id stands there twice"
        if not question.context.strip():
            return "without a context"
        if not question.text.strip():
            return "without words"
        if not all(map(_is_text, (question.id, question.text, question.context))):
            return "whose text has half a surrogate pair in it"
        if question.impossible:
            return None
        if not question.answers:
            return "without an answer"
        if self._training and question.answer_in_context() is None:
            return "whose answer is not at its offset"
        return None

    def _items(self, value: Any, place: str, key: str) -> Iterator[Tuple[str, Any]]:
        """Each object of the list ``key`` of ``value``, with its place in the file."""
        here = f"{place}.{key}" if place else key
        for index, item in enumerate(self._value(value, place, key, list)):
            if not isinstance(item, dict):
                raise UsageError(f"{self._path}: {here}[{index}] is {_kind(item)}, it must be an object with keys")
            yield f"{here}[{index}]", item

    def _value(self, value: Any, place: str, key: str, wanted: Type) -> Any:
        if not isinstance(value, dict):
            raise UsageError(f"{self._path}: it is {_kind(value)}, a SQuAD file is an object with the key 'data'")
        where = f"{self._path}: {place + ' has' if place else 'it has'}"
        if key not in value:
            known = ", ".join(map(str, list(value)[:8])) or "none at all"
            raise UsageError(f"{where} no '{key}' (its keys: {known}); give a SQuAD JSON file")
        found = value[key]
        # true is a whole number to Python, and none to JSON
        if not isinstance(found, wanted) or (wanted is int and isinstance(found, bool)):
            raise UsageError(f"{where} a '{key}' that is {_kind(found)}, it must be {_KINDS[wanted]}")
        return found


_KINDS = {dict: "an object", list: "a list", str: "text", int: "a whole number", bool: "true or false", float: "a number", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
