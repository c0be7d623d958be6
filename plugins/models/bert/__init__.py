"""bert: BERT (Devlin et al. 2019): post-LN encoder, learned positions, segments, exact GELU; for any task's head."""

from __future__ import annotations

import pipeloom
from pipeloom.plugins.models.bert.bert_pretraining import HEADS
from pipeloom.plugins.models.transformer.bert_family import BertFamily
from pipeloom.plugins.models.transformer.sizes import add_transformer_options

__all__ = ["WORD", "pipeloom_add_options", "pipeloom_build_model", "pipeloom_heads"]

_BERT = BertFamily("bert", "Bert")
#: The word embedding, ``(vocab, hidden)``.
WORD = _BERT.word_table


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options)


@pipeloom.hookimpl
def pipeloom_heads(config):
    return list(HEADS)


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    return _BERT.build(config, task)
