"""From the outputs of a model to classes or values, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import replace_file
from pipeloom.core.contract.dataset import Scorer
from pipeloom.plugins.libraries.classification.figures import OF_CLASSES, OF_NUMBERS, confusion, precision_recall_f1

#: The output of a model for each sample: a score of each class, or one value.
LOGITS = "logits"


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of ``(samples, classes)``, float64."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


class LabelScorer(Scorer):
    """Collect the outputs for samples, each with the number of its row in its file.

    ``classes``: their names, ``None`` for a regression. ``wanted``: the class of each sample by number, or its value;
    ``None`` where nobody knows them. ``figures``: which to measure.
    """

    def __init__(
        self,
        rows: np.ndarray,
        classes: Optional[Sequence[str]],
        wanted: Optional[np.ndarray],
        figures: Sequence[str],
    ) -> None:
        self._rows, self._classes, self._wanted, self._figures = rows, classes, wanted, figures
        self._logits: Dict[int, np.ndarray] = {}

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        for index, logits in zip(indices, outputs[LOGITS]):
            self._logits[int(index)] = np.array(logits)

    def finish(self, folder: Optional[Path]) -> Dict[str, float]:
        """Return the figures; none where no sample has a label.

        Writes ``predictions.tsv``, with ``index`` and ``prediction`` as GLUE takes them in (and the probability of that
        class); of classes with labels also ``report.json``: precision, recall and F1 of each, and the table of which
        was said for which. Raises ``RunError`` for outputs that are not finite.
        """
        indices = sorted(self._logits)
        logits = np.stack([self._logits[index] for index in indices])
        if not np.isfinite(logits).all():
            raise RunError("the model's outputs for the held-out set are not finite: try a lower --learning_rate")
        wanted = None if self._wanted is None else self._wanted[indices]
        numbers = [int(self._rows[index]) for index in indices]
        if self._classes is None:
            lines = [f"{number}\t{value:.6g}" for number, value in zip(numbers, logits[:, 0])]
            found = {} if wanted is None else {name: OF_NUMBERS[name](wanted, logits[:, 0]) for name in self._figures}
            return self._leave(folder, ["index\tprediction", *lines], None, found)
        said, shares = logits.argmax(axis=1), probabilities(logits).max(axis=1)
        lines = [f"{n}\t{self._classes[c]}\t{share:.6f}" for n, c, share in zip(numbers, said, shares)]
        table = None if wanted is None else confusion(wanted, said, len(self._classes))
        found = {} if table is None else {name: OF_CLASSES[name](table) for name in self._figures}
        return self._leave(folder, ["index\tprediction\tprobability", *lines], table, found)

    def _leave(
        self, folder: Optional[Path], lines: List[str], table: Optional[np.ndarray], found: Dict[str, float]
    ) -> Dict[str, float]:
        if folder is not None:
            _write(folder / "predictions.tsv", "\n".join(lines) + "\n")
            if table is not None and self._classes is not None:
                _write(
                    folder / "report.json", json.dumps(class_report(table, self._classes), indent=1, ensure_ascii=False)
                )
        return found


def class_report(table: np.ndarray, classes: Sequence[str]) -> Dict[str, Any]:
    """Return precision, recall, F1 and number of samples of each class, and the ``table`` of ``confusion``."""
    columns = [values.tolist() for values in (*precision_recall_f1(table), table.sum(axis=1))]
    names = ("precision", "recall", "f1", "samples")
    by_class = {name: dict(zip(names, values)) for name, values in zip(classes, zip(*columns))}
    return {"classes": by_class, "confusion": {"order": list(classes), "wanted_by_said": table.tolist()}}


def _write(path: Path, text: str) -> None:
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
