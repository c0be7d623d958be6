"""BERT's heads for pre-training (Devlin et al. 2019): masked words, alone or with whether one sentence follows the
other.
"""

from __future__ import annotations

from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import dense
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor
from pipeloom.plugins.models.transformer.masked_words import MaskedWords, masked_lm_head, predictions_of


def _masked_words(config, encoder: Encoder) -> MaskedWords:
    name = "cls.predictions"
    return MaskedWords(
        encoder,
        predictions_of(config, encoder),
        dense=f"{name}.transform.dense",
        norm=f"{name}.transform.LayerNorm",
        decoder=f"{name}.decoder",
        bias=f"{name}.bias",
    )


def pretraining_head(config, encoder: Encoder) -> Head:
    """State the head of pre-training with pairs of texts."""
    h, words = encoder.hidden, _masked_words(config, encoder)
    labels = (*words.labels, Field("next_sentence_labels", (1,), "int32"))

    def build(scope):
        from pipeloom.plugins.models.bert.pretraining_head import PretrainingHead

        return PretrainingHead(scope, words)

    block = Block(
        "pretraining_head",
        (
            *dense(f"{encoder.prefix}.pooler.dense", h, h),
            *words.parameters,
            *dense("cls.seq_relationship", 2, h),
        ),
        # The pooler besides; what chooses between two is next to nothing.
        words.cost(flops_per_sample=2.0 * h * h, kept_bytes=4.0 * h),
        inputs=(*words.inputs, "next_sentence_labels", SAMPLE_WEIGHT),
        build=build,
    )
    return Head(
        block,
        losses={"mlm_loss": 1.0, "nsp_loss": 1.0},
        metrics=("mlm_accuracy", "nsp_accuracy"),
        labels=labels,
        normalize=("masked_lm_weights",),
        architecture="ForPreTraining",
        pipeline_tag="fill-mask",
        **words.names(),
    )


#: BERT's own heads, for samples of pre-training with pairs of texts, and with masked words alone.
HEADS = (
    HeadFor("pretraining", "bert", pretraining_head),
    HeadFor("masked_lm", "bert", lambda config, encoder: masked_lm_head(_masked_words(config, encoder))),
)
