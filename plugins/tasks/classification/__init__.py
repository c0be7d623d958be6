"""Telling what class a text or a pair of texts is of, or what value it has (Devlin et al. 2019, section 4.1)."""

from __future__ import annotations

from typing import Any, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT, Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import dense
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor, Task
from pipeloom.plugins.libraries.classification.figures import FIGURES
from pipeloom.plugins.libraries.classification.labels import classes_for, settings_for
from pipeloom.plugins.tasks.classification.label_prediction import PREDICT


def _head(config: Any, encoder: Encoder) -> Head:
    """State the head of transformers' BertForSequenceClassification: pooler, tanh, dropout, one dense layer.

    Raises ``UsageError`` for a causal model, whose first token has seen nothing of the text.
    """
    if encoder.causal:
        raise UsageError(f"classification reads a text by its first token, which in '{encoder.family}' sees no other")
    return _state(config, encoder, (f"{encoder.prefix}.pooler.dense", "classifier"), drops_hidden=False)


def _roberta_head(config: Any, encoder: Encoder) -> Head:
    """State that of RobertaForSequenceClassification: dropout, dense, tanh, dropout, dense."""
    return _state(config, encoder, ("classifier.dense", "classifier.out_proj"), drops_hidden=True)


def _state(config: Any, encoder: Encoder, names: Tuple[str, str], drops_hidden: bool) -> Head:
    """State a head of two dense layers of these ``names`` on the first token.

    Dropout is that of hidden states, as in transformers without ``classifier_dropout``. Raises ``UsageError`` where
    nobody says what classes there are.
    """
    regression, classes = classes_for(config)
    if not regression and classes is None:
        raise UsageError(
            "classification needs to know its classes: a dataset says them (the option labels), or the config.json of "
            "--init_from (id2label)"
        )
    h, outputs = encoder.hidden, len(classes or "1")
    dropout = getattr(config, "hidden_dropout_prob", 0.0)
    label = Field("targets", (1,), "float32") if regression else Field("labels", (1,), "int32")

    def build(scope: Any) -> Any:
        from pipeloom.plugins.tasks.classification.head import ClassificationHead

        return ClassificationHead(scope, names, (h, outputs), label.name, dropout, drops_hidden)

    block = Block(
        "classification_head",
        (*dense(names[0], h, h), *dense(names[1], outputs, h)),
        Cost(
            flops=0.0,
            output_bytes=0.0,
            kept_bytes=4.0 * h,
            flops_per_sample=2.0 * h * (h + outputs),
            kept_bytes_per_sample=4.0 * (3 * h + 2 * outputs),
        ),
        inputs=(label.name, SAMPLE_WEIGHT, DROPOUT_SEEDS),
        build=build,
    )
    return Head(
        block,
        losses={"label_loss": 1.0},
        outputs={"logits": (outputs,)},
        labels=(label,),
        architecture="ForSequenceClassification",
        pipeline_tag="text-classification",
        fresh=tuple(f"{names[1]}.{part}" for part in ("weight", "bias")),
        config=settings_for(classes),
    )


CLASSIFICATION = Task("classification", _head, figures=FIGURES, best_metric="accuracy", higher=FIGURES, predict=PREDICT)
#: RoBERTa's own: it has no pooler.
ROBERTA_CLASSIFICATION = HeadFor("classification", "roberta", _roberta_head)
