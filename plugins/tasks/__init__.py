"""tasks: causal language models, pre-training, masked words alone, answering questions, classes and values of texts."""

from __future__ import annotations

import pipeloom
from pipeloom.plugins.tasks.causal_lm import CAUSAL_LM
from pipeloom.plugins.tasks.classification import CLASSIFICATION, ROBERTA_CLASSIFICATION
from pipeloom.plugins.tasks.masked_lm import MASKED_LM
from pipeloom.plugins.tasks.pretraining import PRETRAINING
from pipeloom.plugins.tasks.question_answering import QUESTION_ANSWERING


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [CAUSAL_LM, CLASSIFICATION, MASKED_LM, PRETRAINING, QUESTION_ANSWERING]


@pipeloom.hookimpl
def pipeloom_heads(config):
    return [ROBERTA_CLASSIFICATION]
