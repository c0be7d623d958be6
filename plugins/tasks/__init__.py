"""tasks: pre-training on pairs of texts, and answering questions."""

from __future__ import annotations

import pipeloom
from pipeloom.plugins.tasks.pretraining import PRETRAINING
from pipeloom.plugins.tasks.question_answering import QUESTION_ANSWERING


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [PRETRAINING, QUESTION_ANSWERING]
