"""``entry.py predict``: answers of a trained model to questions about texts, with what each is worth."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

from pipeloom.core.arguments import Parser, at_least, boolean, normalize
from pipeloom.core.errors import RunError, UsageError

_TASK = "question_answering"
_LONGEST = 384
_NONE = "(no answer)"


def predict_command(arguments: Sequence[str]) -> int:
    """Answer; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    parser = Parser(prog="entry.py predict", description="Answers to questions about texts, by a model that was trained to give them.")
    _add_arguments(parser)
    options = parser.parse_args([normalize(argument) for argument in arguments])
    questions = _questions(options)
    found = _answers(options, questions)
    answered = [question for question in questions if question.id in found]
    if not answered:
        raise UsageError("there is no question with a text that an answer could be in")
    lines = [_as_json(question, found[question.id]) for question in answered]
    if options.output is not None:
        _write(Path(options.output).expanduser(), lines)
        print(f"{options.output}: answers to {len(lines)} questions")
    elif options.input is not None:
        print("\n".join(lines))
    else:
        print("\n".join(_as_text(found[questions[0].id])))
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="PATH", help="a checkpoint, a run directory (its newest checkpoint) or a HuggingFace folder")
    add("--question", metavar="TEXT", help="one question")
    add("--context", metavar="TEXT", help="the text that it is about")
    add("--input", metavar="FILE", help='many: JSON lines {"question": ..., "context": ..., "id": ...}; the id may be left out')
    add("--output", metavar="FILE", help="where the answers go, as JSON lines [printed]")
    add("--n_best_size", type=at_least(1), default=3, metavar="N", help="answers to give to each question [3]")
    add("--max_answer_length", type=at_least(1), default=30, metavar="N", help="tokens of an answer [30]")
    add("--may_be_impossible", type=boolean, default=False, metavar="{true,false}",
        help='"no answer" is a possible answer, for a model that was trained on SQuAD 2.0 [false]')
    add("--null_score_diff_threshold", type=float, default=0.0, metavar="X", help='by how much "no answer" must be ahead [0.0]')
    add("--seq_length", type=at_least(8), metavar="N", help=f"tokens of an input [{_LONGEST}, or what the model has positions for]")
    add("--doc_stride", type=at_least(1), default=128, metavar="N", help="tokens from one window of a long context to the next [128]")
    add("--max_query_length", type=at_least(1), default=64, metavar="N", help="tokens of a question; what is longer is cut [64]")
    add("--batch_size", type=at_least(1), default=16, metavar="N", help="inputs at once [16]")
    add("--vocab", metavar="PATH",
        help="vocab.txt, or a folder with tokenizer files, for a checkpoint whose data had none beside it")
    add("--lowercase", type=boolean, metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]")


def _questions(options: argparse.Namespace) -> List[Any]:
    from pipeloom.core.data.squad.articles import Question

    if options.input is None:
        for name in ("question", "context"):
            if not (getattr(options, name) or "").strip():
                raise UsageError(f"--{name} is missing: give --question and --context, or --input with many")
        return [Question("1", options.question, options.context)]
    if options.question is not None or options.context is not None:
        raise UsageError("--input has the questions: leave --question and --context out")
    path = Path(options.input).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"--input {path} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror or error}") from None
    found: Dict[str, Any] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            question = _question(line, f"--input {path} line {number}", str(number))
            if question.id in found:
                raise UsageError(f"--input {path} line {number}: the id '{question.id}' is there twice")
            found[question.id] = question
    if not found:
        raise UsageError(f"--input {path} has no questions")
    return list(found.values())


def _question(line: str, where: str, number: str) -> Any:
    from pipeloom.core.data.squad.articles import Question

    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is no JSON") from None
    for name in ("question", "context"):
        if not isinstance(entry, dict) or not isinstance(entry.get(name), str) or not entry[name].strip():
            raise UsageError(f'{where} has no "{name}": each line is {{"question": ..., "context": ...}}')
    return Question(str(entry.get("id", number)), entry["question"], entry["context"])


def _answers(options: argparse.Namespace, questions: Sequence[Any]) -> Dict[str, Any]:
    """By the id of a question its ``Prediction``; none for a context without text."""
    import numpy as np

    from pipeloom.core.checkpoint.source import open_pretrained, vocabulary_for
    from pipeloom.core.data.squad.answers import AnswerSettings
    from pipeloom.core.data.squad.articles import LeftOut
    from pipeloom.core.data.squad.dataset import SquadScorer
    from pipeloom.core.data.squad.features import FeatureSettings, make_features
    from pipeloom.core.predicting import predict

    folder = open_pretrained(options.checkpoint, "--checkpoint")
    vocabulary = vocabulary_for(folder, options.vocab, options.lowercase)
    positions = folder.setting("max_position_embeddings", int)
    seq_length = options.seq_length or min(_LONGEST, positions)
    if seq_length > positions:
        raise UsageError(f"--seq_length {seq_length} is more than the {positions} positions of --checkpoint {folder.path}")
    tokenizer = vocabulary.load(special_in_text=True)
    left_out = LeftOut()
    features = make_features(questions, tokenizer, FeatureSettings(seq_length, options.doc_stride, options.max_query_length), False, left_out)
    for line in [*tokenizer.notes, *left_out.lines()]:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    if not len(features):
        return {}
    inputs = [features.inputs(index) for index in range(len(features))]
    fields = {name: np.stack([entry[name] for entry in inputs]) for name in ("input_ids", "input_mask", "segment_ids")}
    size = folder.setting("vocab_size", int)
    if fields["input_ids"].max() >= size:
        raise UsageError(f"{vocabulary.path} gives the id {fields['input_ids'].max()}, the model has {size} tokens: "
                         "give the vocabulary that it was trained with by --vocab")
    if not tokenizer.has_segments:
        fields["segment_ids"][:] = 0
    outputs = predict(str(folder.path), _TASK, fields, options.batch_size)
    settings = AnswerSettings(options.n_best_size, options.max_answer_length, options.null_score_diff_threshold)
    scorer = SquadScorer(questions, features, settings, options.may_be_impossible)
    scorer.add(range(len(features)), outputs)
    return scorer.predictions()


def _as_json(question: Any, prediction: Any) -> str:
    candidates = [{"text": candidate.text, "start": candidate.start, "end": candidate.end, "probability": round(candidate.probability, 6),
                   "score": round(candidate.score, 6)} for candidate in prediction.candidates]
    return json.dumps({"id": question.id, "question": question.text, "answer": prediction.text, "candidates": candidates}, ensure_ascii=False)


def _as_text(prediction: Any) -> List[str]:
    lines = [f"answer: {prediction.text or _NONE}"]
    for candidate in prediction.candidates:
        where = f"  (characters {candidate.start} to {candidate.end})" if candidate.text else ""
        lines.append(f"{candidate.probability:.3f}  {candidate.text or _NONE}{where}")
    return lines


def _write(path: Path, lines: Sequence[str]) -> None:
    from pipeloom.core.checkpoint.disk import replace_file

    try:
        replace_file(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
