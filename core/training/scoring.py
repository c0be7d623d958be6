"""The figures of an evaluation that the dataset's scorer makes of outputs per sample, and the files that it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Dict, Mapping

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import whole_folder
from pipeloom.core.checkpoint.store import name_of
from pipeloom.core.contract.dataset import Dataset, Scorer
from pipeloom.core.contract.executor import Collectives, Evaluator

#: The folder of a run with a folder ``step_0000100`` for each evaluation that left files.
FOLDER = "evaluations"


class ScoredEvaluation:
    """Evaluate and score. Every rank has one and makes the same calls; the main rank has the scorer and writes."""

    def __init__(
        self,
        evaluator: Evaluator,
        dataset: Dataset,
        directory: Path,
        is_main: bool,
        collectives: Collectives,
        derived_figures: Mapping[str, Callable[[Mapping[str, float]], float]] = MappingProxyType({}),
    ) -> None:
        self._evaluator, self._dataset, self._directory = evaluator, dataset, Path(directory) / FOLDER
        self._is_main, self._collectives = is_main, collectives
        self._derived_figures = derived_figures

    def evaluate(self, step: int) -> Dict[str, float]:
        """Losses, metrics and figures after ``step``, the same on every rank. Raises ``RunError`` where files cannot be
        written.
        """
        if not self._dataset.scored:
            return self._with_derived(self._evaluator.evaluate())
        scorer = self._dataset.scorer() if self._is_main else None
        metrics = self._with_derived(self._evaluator.evaluate(scorer.add if scorer is not None else None))
        figures = write_scores(scorer, self._directory / name_of(step)) if scorer is not None else {}
        return {**metrics, **json.loads(self._collectives.broadcast_text(json.dumps(figures)))}

    def _with_derived(self, measured: Dict[str, float]) -> Dict[str, float]:
        """Return losses and metrics with the figures that follow from them; none where nothing was measured."""
        if not measured:
            return measured
        return {**measured, **{name: figure(measured) for name, figure in self._derived_figures.items()}}


def write_scores(scorer: Scorer, folder: Path) -> Dict[str, float]:
    """The figures of ``scorer``; its files appear as ``folder``, all at once, or not at all. Raises ``RunError``."""
    try:
        with whole_folder(folder) as scratch:
            return {name: float(value) for name, value in scorer.finish(scratch).items()}
    except OSError as error:
        raise RunError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error
