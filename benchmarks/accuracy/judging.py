"""How near predictions come: relative errors, order, and what a wrong choice costs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from accuracy.rows import Row
from pipeloom.core.planning.cost.fit import PRIORS, Fitted, Prior, choose_rows, fit, usual_machines


@dataclass(frozen=True)
class Judged:
    """What came of a table: which rows the constants were fitted on, and the figures of the others."""

    rows: List[Row]
    predicted: List[float]
    fitted_on: List[int]
    constants: Dict[str, Dict[str, float]]

    def figures(self) -> Dict[str, Any]:
        """Return MAPE, Spearman's rank correlation, and the mean and largest regret, of the rows not fitted on."""
        left = [number for number in range(len(self.rows)) if number not in set(self.fitted_on)] or self.fitted_on
        measured = [self.rows[number].seconds for number in left]
        predicted = [self.predicted[number] for number in left]
        regrets = _regrets([self.rows[number] for number in left], predicted)
        return {
            "rows": len(left),
            "mape": float(np.mean([abs(p / m - 1) for p, m in zip(predicted, measured)])),
            "spearman": spearman(predicted, measured),
            "regret": float(np.mean(regrets)) if regrets else 0.0,
            "largest_regret": max(regrets, default=0.0),
            "choices": len(regrets),
        }


def judge(rows: Sequence[Row], count: int) -> Judged:
    """Fit the constants on ``count`` rows of a table, chosen by rule, and predict all of them.

    A table of several systems has constants for each of them, and the rows are dealt out evenly.
    """
    systems = sorted({row.said.get("system", "") for row in rows})
    predicted, fitted_on, constants = [0.0] * len(rows), [], {}
    for position, system in enumerate(systems):
        mine = [number for number, row in enumerate(rows) if row.said.get("system", "") == system]
        share = min(len(mine), max(1, count // len(systems) + (position < count % len(systems))))
        found, chosen = _fit([rows[number] for number in mine], share)
        fitted_on += [mine[number] for number in chosen]
        constants[system] = {name: getattr(found.machines.calibration, name) for name in found.open}
        for number in mine:
            predicted[number] = rows[number].predict(found.machines)
    return Judged(list(rows), predicted, sorted(fitted_on), constants)


def _fit(rows: Sequence[Row], count: int) -> Tuple[Fitted, List[int]]:
    priors = priors_for(rows)
    start = usual_machines(rows[0].model.machines, priors)
    predicts = [row.predict for row in rows]
    chosen = choose_rows(start, predicts, count, priors)
    return fit(
        start, [predicts[number] for number in chosen], [rows[number].seconds for number in chosen], priors
    ), chosen


def priors_for(rows: Sequence[Row]) -> Mapping[str, Prior]:
    """Return the constants that rows may say something of: none of a network that none of them uses."""
    several = any(row.model.machines.nodes > 1 for row in rows)
    return {name: prior for name, prior in PRIORS.items() if several or name != "between"}


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    if len(one) < 2:
        return 1.0
    first, second = _ranks(one), _ranks(other)
    if np.std(first) == 0 or np.std(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.array([(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array])


def _regrets(rows: Sequence[Row], predicted: Sequence[float]) -> List[float]:
    """By how much the chosen layout of each job is slower than its best, relatively; jobs with one layout left out."""
    jobs: Dict[Tuple[str, ...], List[int]] = {}
    for number, row in enumerate(rows):
        jobs.setdefault(row.job(), []).append(number)
    return [
        rows[min(numbers, key=lambda number: predicted[number])].seconds
        / min(rows[number].seconds for number in numbers)
        - 1
        for numbers in jobs.values()
        if len(numbers) > 1
    ]


def shuffled(rows: Sequence[Row], seed: int) -> List[Row]:
    """Return the rows in another order: what is chosen by rule must not hang on the order of a file."""
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)
    return mixed
