"""roberta: RoBERTa (Liu et al. 2019): BERT's encoder without segments, positions counted behind the padding's row, and
a head of its own for masked words; for any task's head.
"""

from __future__ import annotations

import pipeloom
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor
from pipeloom.plugins.models.transformer.bert_family import BertFamily
from pipeloom.plugins.models.transformer.masked_words import MaskedWords, masked_lm_head, predictions_of
from pipeloom.plugins.models.transformer.sizes import add_transformer_options

_ROBERTA = BertFamily("roberta", "Roberta", norm_eps=1e-5, segments=1, padding=1, count_tokens=True)
#: For 512 tokens: rows 0 and 1 of the table are for none, since padding has the id 1.
_POSITIONS = 514


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options, positions=_POSITIONS)


@pipeloom.hookimpl
def pipeloom_heads(config):
    return [HeadFor("masked_lm", "roberta", _masked_lm)]


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    return _ROBERTA.build(config, task)


def _masked_lm(config, encoder: Encoder) -> Head:
    words = MaskedWords(
        encoder,
        predictions_of(config, encoder),
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        decoder="lm_head.decoder",
        bias="lm_head.bias",
    )
    return masked_lm_head(words)
