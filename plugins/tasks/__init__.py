"""tasks: causal language models, pre-training on pairs of texts, masked words alone, and answering questions."""

from __future__ import annotations

import pipeloom
from pipeloom.plugins.tasks.causal_lm import CAUSAL_LM
from pipeloom.plugins.tasks.masked_lm import MASKED_LM
from pipeloom.plugins.tasks.pretraining import PRETRAINING
from pipeloom.plugins.tasks.question_answering import QUESTION_ANSWERING


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [CAUSAL_LM, MASKED_LM, PRETRAINING, QUESTION_ANSWERING]
