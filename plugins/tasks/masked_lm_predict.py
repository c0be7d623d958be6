"""Predict by masked words: the likeliest words in the place of each mask of a text (fill-mask)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.tasks import Predictions, Predictor, TrainedModel

LOGITS = "masked_lm_logits"
#: Bytes of logits that are in memory at once, for all words at all masks.
_MOST_BYTES = 1 << 28


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text", metavar="TEXT", help="a text with the mask of the model's tokenizer in it (<mask>, [MASK])")
    add("--input", metavar="FILE", help="many: a text on each line")
    add("--top_k", type=at_least(1), default=5, metavar="N", help="words for each mask [5]")
    add("--vocab", metavar="PATH", help="tokenizer files, for a checkpoint whose data had none beside it")
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]",
    )


def _run(options: argparse.Namespace, model: TrainedModel) -> Predictions:
    texts = [whole(text) for text in _texts(options)]
    vocabulary: Any = model.vocabulary(options.vocab, options.lowercase)
    words = vocabulary.load(special_in_text=True)
    rows = [[words.cls_id, *words.encode(text), words.sep_id] for text in texts]
    masks = [[place for place, number in enumerate(row) if number == words.mask_id] for row in rows]
    mask, first = words.tokens[words.mask_id], "--text" if options.input is None else f"--input {options.input}"
    for number, places in enumerate(masks):
        if not places:
            line = "" if options.input is None else f", line {number + 1}"
            raise UsageError(f"{first}{line}: it has no {mask}, whose words could be told")
    size = model.setting("vocab_size", int)
    if max(map(max, rows)) >= size:
        raise UsageError(
            f"{vocabulary.path} gives the id {max(map(max, rows))}, the model has {size} tokens: give the vocabulary "
            "that it was trained with by --vocab"
        )
    found = [_told(text, words, *values) for text, values in zip(texts, _likeliest(rows, masks, words, model, options))]
    lines = [json.dumps(one, ensure_ascii=False) for one in found]
    return Predictions(lines, _as_text(found[0]) if options.input is None else lines, f"words for {len(lines)} texts")


def _texts(options: argparse.Namespace) -> Sequence[str]:
    if options.input is None:
        if not (options.text or "").strip():
            raise UsageError("--text is missing: give a text with a mask in it, or --input with many")
        return [options.text]
    if options.text is not None:
        raise UsageError("--input has the texts: leave --text out")
    path = Path(options.input).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror or error}{similar_path(path)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--input {path}: it is no UTF-8 text") from None
    texts = [line for line in (line.strip() for line in lines) if line]
    if not texts:
        raise UsageError(f"--input {path}: there is no text in it")
    return texts


def _likeliest(rows: List[List[int]], masks: List[List[int]], words: Any, model: TrainedModel, options: Any) -> Any:
    """For each text the ids of the ``top_k`` likeliest words and their probabilities, ``(masks, top_k)`` each."""
    length, size = max(map(len, rows)), model.setting("vocab_size", int)
    top = min(options.top_k, size)
    at_once = max(1, _MOST_BYTES // (4 * length * size))
    for start in range(0, len(rows), at_once):
        here = rows[start : start + at_once]
        fields = _fields(here, masks[start : start + at_once], length, words.pad_id)
        high = {"input_ids": size, "masked_lm_positions": length}
        # As many places as tokens: what a head has room for where no dataset says otherwise.
        logits = model.outputs(fields, length, high, {"seq_length": length, "max_predictions": length})[LOGITS]
        for places, values in zip(masks[start:], logits):
            scores = values[: len(places)].astype(np.float64)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
            yield best, np.take_along_axis(shares, best, axis=1)


def _fields(rows: List[List[int]], masks: List[List[int]], length: int, padding: int) -> Dict[str, np.ndarray]:
    fields = {name: np.zeros((len(rows), length), np.int32) for name in ("input_mask", "segment_ids")}
    fields["input_ids"] = np.full((len(rows), length), padding, np.int32)
    fields["masked_lm_positions"] = np.zeros((len(rows), length), np.int32)
    for number, (row, places) in enumerate(zip(rows, masks)):
        fields["input_ids"][number, : len(row)] = row
        fields["input_mask"][number, : len(row)] = 1
        fields["masked_lm_positions"][number, : len(places)] = places
    return fields


def _told(text: str, words: Any, ids: np.ndarray, shares: np.ndarray) -> Dict[str, Any]:
    masks = [
        [
            {"word": words.decode([number]).strip(), "token": words.tokens[number], "probability": round(share, 6)}
            for number, share in zip(best, values)
        ]
        for best, values in zip(ids.tolist(), shares.tolist())
    ]
    return {"text": text, "masks": masks}


def _as_text(found: Dict[str, Any]) -> List[str]:
    several = len(found["masks"]) > 1
    lines = []
    for number, candidates in enumerate(found["masks"], 1):
        lines += [f"mask {number}:"] if several else []
        lines += [f"{one['probability']:.3f}  {one['word'] or one['token']}" for one in candidates]
    return lines


PREDICT = Predictor(_add_arguments, _run, architecture="ForMaskedLM")
