"""Answering questions about a text by a span of it (Devlin et al. 2019, section 4.2): where the answer starts and where it ends."""
from __future__ import annotations

import numpy as np

from pipeloom.core.blocks import Block, Cost
from pipeloom.core.data.dataset import Field
from pipeloom.core.data.derived import DerivedField
from pipeloom.core.layers import dense
from pipeloom.core.tasks import Encoder, Head, Task

_LABELS = ("start_positions", "end_positions", "start_weights", "end_weights")


def _head(config, encoder: Encoder) -> Head:
    """As BertForQuestionAnswering of transformers: no pooler, one dense layer; the mean of both losses."""
    h, length = encoder.hidden, encoder.seq_length

    def build(scope):
        from pipeloom.plugins.tasks.question_answering_head import AnswerHead

        return AnswerHead(scope)

    block = Block("answer_head", dense("qa_outputs", 2, h),
                  Cost(flops=4.0 * h, output_bytes=0.0, kept_bytes=4.0 * (h + 4)), inputs=_LABELS, build=build)
    return Head(block, losses={"start_loss": 0.5, "end_loss": 0.5}, outputs={"start_logits": (length,), "end_logits": (length,)},
                labels=_LABELS, normalize=("start_weights", "end_weights"), architecture="ForQuestionAnswering")


def _weights(config):
    """A position outside of the input counts nothing, and the loss is the mean over the others, as there."""

    def derived(which: str) -> DerivedField:
        return DerivedField(Field(f"{which}_weights", (1,), "float32"), (f"{which}_positions",),
                            lambda positions: (positions < config.seq_length).astype(np.float32))

    return derived("start"), derived("end")


QUESTION_ANSWERING = Task("question_answering", _head, derived=_weights, figures=("exact_match", "f1"), best_metric="f1",
                          higher=("exact_match", "f1"))
