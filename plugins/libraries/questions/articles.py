"""Questions about paragraphs (SQuAD 1.1 and 2.0): what their fields mean, and what can be used.

``{"id", "question", "answers": [{"text", "answer_start"}], "is_impossible"}`` beside a context, which ``sources.py``
finds in a file; offsets count characters (code points). Rajpurkar et al., 2016 and 2018. Where files say less than
SQuAD's own, or something else, its official evaluations decide: by them a question without answers is unanswerable,
flag or no flag.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.sources import Entry, Source, value_of
from pipeloom.plugins.libraries.text.whole_files import kind_of

# Of how many questions a report gives the ids, for each reason.
_SHOWN = 5

_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Answer:
    """A reference answer: ``text`` stands in the context at the character ``start``; -1 where nobody says."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after the answer."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question about a context, by an ``id`` that no other question has.

    One that is ``impossible`` has no answer there, to learn from; ``answers`` are what the official evaluations compare
    with. A question without either is one whose answer is not known.
    """

    id: str
    text: str
    context: str
    answers: Tuple[Answer, ...] = ()
    impossible: bool = False

    @property
    def has_reference(self) -> bool:
        """Whether a prediction can be compared with something."""
        return self.impossible or bool(self.answers)

    def answer_in_context(self) -> Optional[Answer]:
        """The first of the answers that stands where it says, as it stands there; none if ``impossible``."""
        found = (_in_context(self.context, answer) for answer in self.answers)
        return None if self.impossible else next((answer for answer in found if answer is not None), None)

    def why_not_in_context(self) -> str:
        """Why none of the answers stands where it says."""
        answers = [answer for answer in self.answers if answer.text.strip()]
        if not answers:
            return "whose answer is empty" if self.answers else "without an answer"
        if all(answer.start == -1 for answer in answers):
            return "whose answer has no offset (answer_start)"
        if any(_stands_by_units(self.context, answer, "utf-16-le", 2) for answer in answers):
            return "whose answer_start counts UTF-16 units, not characters"
        if any(_stands_by_units(self.context, answer, "utf-8", 1) for answer in answers):
            return "whose answer_start counts bytes, not characters"
        return "whose answer is not at its offset"


def _in_context(context: str, answer: Answer) -> Optional[Answer]:
    """The answer as the context has it at its offset; any white space is as good as another, as in run_squad.py."""
    words = answer.text.split()
    if not words or not 0 <= answer.start < len(context):
        return None
    if context.startswith(answer.text, answer.start):
        return answer
    found = re.compile(r"\s*(" + r"\s+".join(map(re.escape, words)) + ")").match(context, answer.start)
    return Answer(found.group(1), found.start(1)) if found is not None else None


def _stands_by_units(context: str, answer: Answer, encoding: str, width: int) -> bool:
    """Whether an answer stands at its offset if that counts units of ``width`` bytes of an encoding."""
    there, text = (string.encode(encoding, "surrogatepass") for string in (context, answer.text))
    return answer.start >= 0 and there.startswith(text, width * answer.start)


class LeftOut:
    """Questions that are not used, or not as others are: for each reason how many, and the ids of the first ones.

    ``len`` counts those that are not used at all.
    """

    def __init__(self) -> None:
        self.counts: Dict[Tuple[str, str], int] = {}
        self._first: Dict[Tuple[str, str], List[str]] = {}

    def add(self, reason: str, question_id: str, what: str = "left out") -> None:
        """Count a question; ``what`` else than "left out" says what becomes of one that is used."""
        key = what, reason
        self.counts[key] = self.counts.get(key, 0) + 1
        first = self._first.setdefault(key, [])
        if len(first) < _SHOWN:
            first.append(question_id)

    def __len__(self) -> int:
        return sum(count for (what, _), count in self.counts.items() if what == "left out")

    def lines(self) -> List[str]:
        """One line for each reason, with the ids of the first questions."""
        return [
            f"{count} question{'s' if count > 1 else ''} {what}, {reason}: {', '.join(self._first[what, reason])}"
            f"{', ...' if count > _SHOWN else ''}"
            for (what, reason), count in self.counts.items()
        ]


@dataclass(frozen=True)
class Articles:
    """The questions of one file or several. ``version_2``: some may have no answer, and the rules of SQuAD 2.0 hold."""

    questions: List[Question]
    version_2: bool
    left_out: LeftOut

    def to_json(self) -> bytes:
        """A file in SQuAD's own form: ``read_articles`` and the official evaluations read these questions in it."""
        paragraphs: List[Dict[str, Any]] = []
        for question in self.questions:
            if not paragraphs or paragraphs[-1]["context"] != question.context:
                paragraphs.append({"context": question.context, "qas": []})
            entry: Dict[str, Any] = {"id": question.id, "question": question.text}
            if question.has_reference:
                entry["answers"] = [{"text": answer.text, "answer_start": answer.start} for answer in question.answers]
                if self.version_2:
                    entry["is_impossible"] = question.impossible
            paragraphs[-1]["qas"].append(entry)
        version = "2.0" if self.version_2 else "1.1"
        return (json.dumps({"version": version, "data": [{"title": "", "paragraphs": paragraphs}]}) + "\n").encode()


def read_articles(paths: Union[str, Path, Sequence[Path]], training: bool) -> Articles:
    """The questions of one file or several, in their order; what such a file may be, ``sources.py`` says.

    For ``training`` a question that cannot be used is left out and counted: one without context, words or answer, or
    whose answers are not at their offsets. For evaluation all are asked; what cannot be scored is counted. Ids are
    needed there alone: where one is missing or stands there twice, another is made of it. Raises ``UsageError`` naming
    the file and the place in it where the structure is wrong, and where no question is left.
    """
    reader = _Reader(training)
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        reader.read(Path(path).expanduser())
    return Articles(reader.questions, reader.version_2, reader.left_out)


class _Reader:
    """Collects the questions of files."""

    def __init__(self, training: bool) -> None:
        self._training = training
        self.questions: List[Question] = []
        self.left_out = LeftOut()
        self.version_2 = False
        self._number = 0
        self._asked: Dict[str, Tuple[str, str]] = {}  # id -> context and text

    def read(self, path: Path) -> None:
        """Take the questions of a file."""
        source = Source(path)
        raw = [_Raw(entry) for entry in source.entries()]
        version_2 = source.has_version("2") or any(one.impossible for one in raw)
        version_1 = source.has_version("1") and not version_2
        # Where not one question has an answer they are not all unanswerable: it is a test set, its answers are secret.
        has_answers = any(one.impossible or one.has_words for one in raw)
        before = len(self.questions)
        for one in raw:
            self._number += 1
            impossible = one.impossible or (one.is_empty and has_answers and not version_1)
            version_2 = version_2 or impossible
            self._take(one, impossible)
        self.version_2 = self.version_2 or version_2
        if len(self.questions) == before:
            why = self.left_out.lines()
            raise UsageError(
                f"{path} has no question to use{': ' + '; '.join(why) if why else ''}; give a SQuAD file with questions"
            )

    def _take(self, raw: _Raw, impossible: bool) -> None:
        name = raw.id if raw.id is not None else str(self._number)
        text, context = (raw.text, raw.context) if self._training else (whole(raw.text), whole(raw.context))
        question = Question(self._own_id(name, raw), text, context, raw.answers or (), impossible)
        unusable = _unusable(question) if self._training else ""
        if unusable:
            self.left_out.add(unusable, question.id)
            return
        if question.id != name and not self._training:
            self.left_out.add("since another one has that id, by", question.id, "answered under another id")
        self.questions.append(question)

    def _own_id(self, name: str, raw: _Raw) -> str:
        """An id that no other question has. The same question may come again by the same id: its answer is the same."""
        asked, found, number = (raw.context, raw.text), name, 1
        while self._asked.setdefault(found, asked) != asked:
            number += 1
            found = f"{name}#{number}"
        return found


class _Raw:
    """The fields of a question as its file has them.

    ``impossible``: by its own words; ``answers`` is ``None`` where it says nothing of them.
    """

    def __init__(self, entry: Entry) -> None:
        self.context, self.text = entry.context or "", entry.value("question", str)
        self.id = _id(entry)
        self.answers = _answers(entry)
        self.impossible = _flag(entry) or (not self.has_words and bool(entry.fields.get("plausible_answers")))

    @property
    def has_words(self) -> bool:
        """Whether one of its answers is a text."""
        return any(answer.text.strip() for answer in self.answers or ())

    @property
    def is_empty(self) -> bool:
        """Whether it says that there are no answers."""
        return self.answers is not None and not self.has_words


def _unusable(question: Question) -> str:
    """Why there is nothing to learn from a question; "" where there is."""
    if not question.context.strip():
        return "without a context"
    if not question.text.strip():
        return "without words"
    if whole(question.text) != question.text or whole(question.context) != question.context:
        return "whose text has half a surrogate pair in it"
    return "" if question.impossible or question.answer_in_context() else question.why_not_in_context()


def _id(entry: Entry) -> Optional[str]:
    """The id as text; ``None`` for one that names nothing."""
    found = entry.fields.get("id")
    if isinstance(found, (dict, list, bool)):
        raise entry.error("id", found, "text or a number")
    text = "" if found is None else str(found)
    return text if text.strip() and whole(text) == text else None


def _flag(entry: Entry) -> bool:
    """``is_impossible``, which tables have as a number or as text; false where it is not there."""
    found = entry.fields.get("is_impossible")
    flag = _FLAGS.get(str(found).lower()) if found is not None else False
    if flag is None:
        raise entry.error("is_impossible", found, "true or false")
    return flag


def _answers(entry: Entry) -> Optional[Tuple[Answer, ...]]:
    """The answers: a list of them, one, texts alone, or a list of texts and one of offsets."""
    found = entry.fields.get("answers", entry.fields.get("answer"))  # KorQuAD 2.0 has one answer, by that name
    if found is None and "answers.text" in entry.fields:  # a flattened table
        found = {key: entry.fields.get(f"answers.{key}") for key in ("text", "answer_start")}
    if found is None:
        return None
    if isinstance(found, str) and re.match(r"\s*[\[{].*\btext\b", found, re.DOTALL):  # of a table that has text alone
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            raise entry.error("answers", found, "an object, and this looks like the text of one") from None
    if not isinstance(found, (list, dict, str)):
        raise entry.error("answers", found, "a list")
    items = found if isinstance(found, list) else [found]
    return tuple(
        answer for number, item in enumerate(items) for answer in _of_item(item, f"{entry.where}.answers[{number}]")
    )


def _of_item(item: Any, where: str) -> Iterator[Answer]:
    if isinstance(item, str):
        yield Answer(item, -1)
        return
    if not isinstance(item, dict):
        raise UsageError(f"{where} is {kind_of(item)}, it must be an object with keys")
    if not item:
        return
    texts, starts = item.get("text"), item.get("answer_start")
    if not isinstance(texts, list):
        texts, starts = [value_of(item, where, "text", str)], [starts]
    starts = [-1] * len(texts) if starts is None else starts
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise UsageError(f"{where} has {len(texts)} texts and not as many values of 'answer_start'")
    for text, start in zip(texts, starts):
        yield Answer(value_of({"text": text}, where, "text", str), _offset(start, where))


def _offset(value: Any, where: str) -> int:
    """An offset, which may be text, or a number with a fraction of 0. Raises ``UsageError``."""
    if value is None:
        return -1
    try:
        number = float(value) if isinstance(value, (str, float)) else value
        if not isinstance(value, bool) and number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{where} has a 'answer_start' that is {kind_of(value)}, it must be a whole number")
