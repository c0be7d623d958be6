"""Predict classes of texts with their probabilities, or values, by a trained model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, List, Optional, Sequence

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.tasks import Predictions, Predictor, TrainedModel


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text", metavar="TEXT", help="one text")
    add("--text_pair", metavar="TEXT", help="what it is paired with, for a model of pairs")
    add("--input", metavar="FILE", help="many: TSV, CSV, JSON lines, or a text a line; labels in it are not read")
    add("--text_column", metavar="NAME", help="column with the text, by name or number from 1 [as in training]")
    add("--text_pair_column", metavar="NAME", help="column with the second text")
    add("--label_column", metavar="NAME", help="column with the label, which is no text")
    add("--header", type=boolean, metavar="{true,false}", help="whether the first row has the names of the columns")
    add("--quoted", type=boolean, metavar="{true,false}", help="whether fields may stand in double quotes")
    add("--seq_length", type=at_least(8), metavar="N", help="tokens of an input; what is longer is cut [128]")
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


def _run(options: argparse.Namespace, model: TrainedModel) -> Predictions:
    from pipeloom.plugins.libraries.classification.labels import classes_of_model, is_regression_model

    texts = _texts(options)
    logits = _logits(options, model, texts)
    classes = None
    if not is_regression_model(model.config):
        classes = classes_of_model(model.config) or [f"LABEL_{number}" for number in range(logits.shape[1])]
    lines = [_as_json(text, row, classes) for text, row in zip(texts, logits)]
    shown = _as_text(logits[0], classes) if options.input is None else lines
    return Predictions(lines, shown, f"{'values' if classes is None else 'labels'} of {len(lines)} texts")


def _texts(options: argparse.Namespace) -> List[Any]:
    from pipeloom.plugins.libraries.classification.columns import ColumnNames
    from pipeloom.plugins.libraries.classification.rows import LabelledText, read_rows

    if options.input is None:
        if not (options.text or "").strip():
            raise UsageError("--text is missing: give --text (and --text_pair), or --input with many")
        pair = options.text_pair
        return [LabelledText(0, 1, whole(options.text), None if pair is None else whole(pair))]
    if options.text is not None or options.text_pair is not None:
        raise UsageError("--input has the texts: leave --text and --text_pair out")
    asked = ColumnNames(options.text_column, options.text_pair_column, options.label_column, options.header)
    found = read_rows(Path(options.input).expanduser(), asked, options.quoted, with_labels=False)
    for line in found.notes():
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    return found.rows


def _logits(options: argparse.Namespace, model: TrainedModel, texts: Sequence[Any]) -> Any:
    """The outputs for each text, float32 ``(texts, classes)``."""
    import numpy as np

    from pipeloom.plugins.libraries.classification.framing import SEQ_LENGTH, Frame, stack
    from pipeloom.plugins.libraries.classification.label_scorer import LOGITS

    vocabulary: Any = model.vocabulary(options.vocab, options.lowercase)
    positions = model.setting("max_position_embeddings", int)
    most = options.seq_length or min(SEQ_LENGTH, positions)
    if most > positions:
        raise UsageError(f"--seq_length {most} is more than the {positions} positions of --checkpoint {model.path}")
    tokenizer = vocabulary.load(special_in_text=True)
    for line in tokenizer.notes:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    frame = Frame.of(tokenizer)
    firsts = tokenizer.encode_batch([text.text for text in texts])
    seconds = tokenizer.encode_batch([text.pair or "" for text in texts])
    tokens = [
        (np.array(first, np.int32), None if text.pair is None else np.array(second, np.int32))
        for text, first, second in zip(texts, firsts, seconds)
    ]
    sizes = [len(a) + (0 if b is None else len(b)) + frame.size(b is not None) for a, b in tokens]
    cut = sum(size > most for size in sizes)
    if cut:
        longer = f"longer than {most} tokens and cut" + (
            "" if most == positions else ": --seq_length takes more of them"
        )
        print(f"pipeloom: warning: {cut} of {len(texts)} texts are {longer}", file=sys.stderr)
    seq_length = min(most, -(-max(*sizes, 8) // 8) * 8)  # padding changes nothing but the time that it takes
    fields, size = stack(frame, tokens, seq_length), model.setting("vocab_size", int)
    if fields["input_ids"].max() >= size:
        raise UsageError(
            f"{vocabulary.path} gives the id {fields['input_ids'].max()}, the model has {size} tokens: "
            "give the vocabulary that it was trained with by --vocab"
        )
    high = {"input_ids": size, "input_mask": 2, "segment_ids": 2}
    return model.outputs(fields, seq_length, high)[LOGITS]


def _as_json(text: Any, logits: Any, classes: Optional[Sequence[str]]) -> str:
    found = {"index": text.number, "text": text.text, **({} if text.pair is None else {"text_pair": text.pair})}
    if classes is None:
        return json.dumps({**found, "value": round(float(logits[0]), 6)}, ensure_ascii=False)
    ranked = _ranked(logits, classes)
    shares = {name: round(share, 6) for name, share in ranked}
    return json.dumps({**found, "label": ranked[0][0], "probabilities": shares}, ensure_ascii=False)


def _as_text(logits: Any, classes: Optional[Sequence[str]]) -> List[str]:
    if classes is None:
        return [f"value: {float(logits[0]):.4f}"]
    ranked = _ranked(logits, classes)
    return [f"label: {ranked[0][0]}", *(f"{share:.3f}  {name}" for name, share in ranked)]


def _ranked(logits: Any, classes: Sequence[str]) -> Any:
    """The classes with their probabilities, the most probable one first."""
    from pipeloom.plugins.libraries.classification.label_scorer import probabilities

    shares = probabilities(logits[None])[0].tolist()
    return sorted(zip(classes, shares), key=lambda one: -one[1])


PREDICT = Predictor(_add_arguments, _run, architecture="ForSequenceClassification")
