"""BERT's head for pre-training (Devlin et al. 2019): masked words, and whether one sentence follows the other."""

from __future__ import annotations

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost, ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import dense, layer_norm
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor


def pretraining_head(config, encoder: Encoder) -> Head:
    """State the head; the dataset must have the option ``max_predictions``. Raises ``UsageError`` where it has not."""
    h, v, name, tied = encoder.hidden, encoder.vocab, "cls.predictions", encoder.tied
    decoder = f"{name}.decoder.weight"
    predictions = getattr(config, "max_predictions", None)
    if predictions is None:
        raise UsageError(
            "pre-training needs a dataset that has the option max_predictions: how many masked tokens a sample has "
            "room for"
        )

    labels = (
        Field("masked_lm_ids", (predictions,), "int32"),
        Field("masked_lm_weights", (predictions,), "float32"),
        Field("next_sentence_labels", (1,), "int32"),
    )

    def build(scope):
        from pipeloom.plugins.models.bert.pretraining_head import PretrainingHead

        return PretrainingHead(scope, encoder)

    block = Block(
        "pretraining_head",
        (
            *dense(f"{encoder.prefix}.pooler.dense", h, h),
            *dense(f"{name}.transform.dense", h, h),
            *layer_norm(f"{name}.transform.LayerNorm", h),
            ParameterSpec(encoder.word_table if tied else decoder, (v, h), tensor_dim=0),
            ParameterSpec(f"{name}.bias", (v,), "zeros", decay=False, tensor_dim=0, products=0, lookups=1),
            *dense("cls.seq_relationship", 2, h),
        ),
        Cost(
            flops=0.0,
            output_bytes=0.0,
            kept_bytes=4.0 * h,
            tensor_bytes=4.0 * h if tied else 0.0,  # the look-ups
            # Transform and decoder for each prediction, and the pooler; what chooses between two is next to nothing.
            flops_per_sample=predictions * (2.0 * h * v + 2.0 * h * h) + 2.0 * h * h,
            kept_bytes_per_sample=4.0 * predictions * (v + 4 * h),
            # For each prediction the label's row of the decoder and the gradient of its input.
            tensor_bytes_per_sample=4.0 * predictions * (2 * h + 4),
        ),
        inputs=("masked_lm_positions", *(field.name for field in labels), SAMPLE_WEIGHT),
        build=build,
    )
    return Head(
        block,
        losses={"mlm_loss": 1.0, "nsp_loss": 1.0},
        metrics=("mlm_accuracy", "nsp_accuracy"),
        labels=labels,
        normalize=("masked_lm_weights",),
        word_part="word" if tied else None,
        architecture="ForPreTraining",
        pipeline_tag="fill-mask",
        # The decoder's bias has two names; transformers computes with the second one. A decoder with a weight of its
        # own starts from the word embedding where the folder has none, and a word embedding that is not there from
        # the decoder that it is tied to.
        aliases={
            f"{name}.bias": (f"{name}.decoder.bias", f"{name}.bias"),
            decoder: (decoder, encoder.word_table),
            encoder.word_table: (encoder.word_table, *((decoder,) if tied else ())),
        },
        repeated={f"{name}.decoder.bias": f"{name}.bias", **({decoder: encoder.word_table} if tied else {})},
    )


#: The head of BERT's own for samples of pre-training.
PRETRAINING_HEAD = HeadFor("pretraining", "bert", pretraining_head)
