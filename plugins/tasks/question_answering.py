"""Answering questions about a text by a span of it (Devlin et al. 2019, section 4.2): where the answer starts and where
it ends.
"""

from __future__ import annotations

import numpy as np

from pipeloom.core.contract.blocks import Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.derived import DerivedField
from pipeloom.core.contract.layers import dense
from pipeloom.core.contract.tasks import Encoder, Head, Task
from pipeloom.plugins.tasks.question_answering_predict import PREDICT

_WEIGHTS = {which: Field(f"{which}_weights", (1,), "float32") for which in ("start", "end")}
_LABELS = (*(Field(f"{which}_positions", (1,), "int32") for which in _WEIGHTS), *_WEIGHTS.values())


def _head(config, encoder: Encoder) -> Head:
    """State the head as transformers' ...ForQuestionAnswering has it: one dense layer; the mean of both losses."""
    h, length = encoder.hidden, encoder.seq_length

    def build(scope):
        from pipeloom.plugins.tasks.question_answering_head import AnswerHead

        return AnswerHead(scope)

    block = Block(
        "answer_head",
        dense("qa_outputs", 2, h),
        Cost(flops=4.0 * h, output_bytes=0.0, kept_bytes=4.0 * (h + 4)),
        inputs=tuple(field.name for field in _LABELS),
        build=build,
    )
    return Head(
        block,
        losses={"start_loss": 0.5, "end_loss": 0.5},
        outputs={"start_logits": (length,), "end_logits": (length,)},
        labels=_LABELS,
        normalize=tuple(field.name for field in _WEIGHTS.values()),
        architecture="ForQuestionAnswering",
        pipeline_tag="question-answering",
    )


def _weights(config):
    """Weigh a position outside of the input as nothing; the loss is the mean over the others, as in transformers."""

    def counts(positions):
        return (positions < config.seq_length).astype(np.float32)

    return [DerivedField(field, (f"{which}_positions",), counts) for which, field in _WEIGHTS.items()]


QUESTION_ANSWERING = Task(
    "question_answering",
    _head,
    derived=_weights,
    figures=("exact_match", "f1"),
    best_metric="f1",
    higher=("exact_match", "f1"),
    predict=PREDICT,
)
