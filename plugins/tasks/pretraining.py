"""Pre-training on pairs of texts with masked words (Devlin et al. 2019); each family of models has its own head."""

from __future__ import annotations

from pipeloom.core.contract.tasks import Task

PRETRAINING = Task("pretraining", higher=("mlm_accuracy", "nsp_accuracy"))
