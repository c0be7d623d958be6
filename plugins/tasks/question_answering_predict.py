"""Predict by question answering: answers of a trained model to questions about texts, with what each is worth."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.tasks import Predictions, Predictor, TrainedModel

_LONGEST = 384
_NONE = "(no answer)"


def _run(options: argparse.Namespace, model: TrainedModel) -> Predictions:
    questions = [replace(asked, text=whole(asked.text), context=whole(asked.context)) for asked in _questions(options)]
    found = _answers(options, questions, model)
    if not found:
        raise UsageError("there is no question with a text that an answer could be in")
    lines = [_as_json(question, found[question.id]) for question in questions]
    shown = _as_text(found[questions[0].id]) if options.input is None else lines
    return Predictions(lines, shown, f"answers to {len(lines)} questions")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--question", metavar="TEXT", help="one question")
    add("--context", metavar="TEXT", help="the text that it is about")
    add(
        "--input",
        metavar="FILE",
        help='many: JSON lines {"question": ..., "context": ..., "id": ...}, whose id may be left out; or SQuAD JSON',
    )
    add("--n_best_size", type=at_least(1), default=3, metavar="N", help="answers to give to each question [3]")
    add("--max_answer_length", type=at_least(1), default=30, metavar="N", help="tokens of an answer [30]")
    add(
        "--may_be_impossible",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help='"no answer" is a possible answer, for a model that was trained on SQuAD 2.0 [false]',
    )
    add(
        "--null_score_diff_threshold",
        type=float,
        default=0.0,
        metavar="X",
        help='by how much "no answer" must be ahead [0.0]',
    )
    add(
        "--seq_length",
        type=at_least(8),
        metavar="N",
        help=f"tokens of an input [{_LONGEST}, or what the model has positions for]",
    )
    add(
        "--doc_stride",
        type=at_least(1),
        metavar="N",
        help="tokens from one window of a long context to the next [128, or half of an input]",
    )
    add(
        "--max_query_length",
        type=at_least(1),
        metavar="N",
        help="tokens of a question; what is longer is cut [64, or half of an input that has no room for it]",
    )
    add(
        "--vocab",
        metavar="PATH",
        help="vocab.txt, or a folder with tokenizer files, for a checkpoint whose data had none beside it",
    )
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]",
    )


def _questions(options: argparse.Namespace) -> List[Any]:
    from pipeloom.core.data.mixture import paths_in
    from pipeloom.plugins.libraries.questions.articles import Question, read_articles

    if options.input is None:
        for name in ("question", "context"):
            if not (getattr(options, name) or "").strip():
                raise UsageError(f"--{name} is missing: give --question and --context, or --input with many")
        return [Question("1", options.question, options.context)]
    if options.question is not None or options.context is not None:
        raise UsageError("--input has the questions: leave --question and --context out")
    articles = read_articles([Path(path) for path in paths_in(options.input)], training=False)
    for line in articles.left_out.lines():
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    # nothing is scored here
    return [replace(question, answers=(), impossible=False) for question in articles.questions]


def _answers(options: argparse.Namespace, questions: Sequence[Any], model: TrainedModel) -> Dict[str, Any]:
    """By the id of a question its ``Prediction``; none at all where no context has text."""
    import numpy as np

    from pipeloom.plugins.libraries.questions.answers import AnswerSettings
    from pipeloom.plugins.libraries.questions.articles import LeftOut
    from pipeloom.plugins.libraries.questions.features import (
        LEAST_BESIDE_QUESTION,
        FeatureSettings,
        make_features,
        sizes_for,
    )
    from pipeloom.plugins.libraries.questions.scorer import AnswerScorer

    vocabulary: Any = model.vocabulary(options.vocab, options.lowercase)
    positions = model.setting("max_position_embeddings", int)
    seq_length = options.seq_length or min(_LONGEST, positions)
    if seq_length > positions:
        raise UsageError(
            f"--seq_length {seq_length} is more than the {positions} positions of --checkpoint {model.path}"
        )
    if (options.max_query_length or 0) + LEAST_BESIDE_QUESTION > seq_length:
        raise UsageError(
            f"--max_query_length {options.max_query_length} leaves no room for a context in {seq_length} tokens "
            f"(--checkpoint {model.path} has {positions} positions): give at most "
            f"{seq_length - LEAST_BESIDE_QUESTION}"
        )
    tokenizer = vocabulary.load(special_in_text=True)
    left_out = LeftOut()
    usual = sizes_for(seq_length)
    sizes = FeatureSettings(seq_length, **{name: getattr(options, name) or usual[name] for name in usual})
    features = make_features(questions, tokenizer, sizes, False, left_out)
    for line in [*tokenizer.notes, *left_out.lines()]:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    if not len(features):
        return {}
    inputs = [features.inputs(index) for index in range(len(features))]
    fields = {name: np.stack([entry[name] for entry in inputs]) for name in ("input_ids", "input_mask", "segment_ids")}
    if not tokenizer.has_segments:
        fields["segment_ids"][:] = 0
    size = model.setting("vocab_size", int)
    if fields["input_ids"].max() >= size:
        raise UsageError(
            f"{vocabulary.path} gives the id {fields['input_ids'].max()}, the model has {size} tokens: "
            "give the vocabulary that it was trained with by --vocab"
        )
    high = {"input_ids": size, "input_mask": 2, "segment_ids": 2}
    outputs = model.outputs(fields, seq_length, high)
    settings = AnswerSettings(options.n_best_size, options.max_answer_length, options.null_score_diff_threshold)
    scorer = AnswerScorer(questions, features, settings, options.may_be_impossible)
    scorer.add(range(len(features)), outputs)
    return scorer.predictions()


def _as_json(question: Any, prediction: Any) -> str:
    candidates = [
        {
            "text": candidate.text,
            "start": candidate.start,
            "end": candidate.end,
            "probability": round(candidate.probability, 6),
            "score": round(candidate.score, 6),
        }
        for candidate in prediction.candidates
    ]
    return json.dumps(
        {"id": question.id, "question": question.text, "answer": prediction.text, "candidates": candidates},
        ensure_ascii=False,
    )


def _as_text(prediction: Any) -> List[str]:
    lines = [f"answer: {prediction.text or _NONE}"]
    for candidate in prediction.candidates:
        where = f"  (characters {candidate.start} to {candidate.end})" if candidate.text else ""
        lines.append(f"{candidate.probability:.3f}  {candidate.text or _NONE}{where}")
    return lines


PREDICT = Predictor(_add_arguments, _run, architecture="ForQuestionAnswering")
