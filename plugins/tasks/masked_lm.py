"""Predicting masked words of a text (Devlin et al. 2019; alone as in Liu et al. 2019); each family of models has its
own head.
"""

from __future__ import annotations

from pipeloom.core.contract.tasks import Task
from pipeloom.plugins.tasks.masked_lm_predict import PREDICT

MASKED_LM = Task("masked_lm", higher=("mlm_accuracy",), predict=PREDICT)
