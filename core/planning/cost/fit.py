"""Calibrate the few constants of a cluster from a handful of measured steps, and choose which to measure.

The constants are positive, so their logarithms are fitted: a least-squares fit of the logarithms of the steps' times
with a normal prior around each constant's usual value (maximum a posteriori, by Gauss-Newton steps that are damped as
Levenberg and Marquardt do). With as few rows as there are constants the prior keeps those that the rows say nothing of
where they usually lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from pipeloom.core.planning.cost.hardware import Calibration, Machines

#: How far off a row is, relatively, where the form of the model is right.
_NOISE = 0.06


class Prior(NamedTuple):
    """State where a constant usually lies: ``value``, and ``factor``, by which it is often larger or smaller."""

    value: float
    factor: float


#: Of GPUs; for a share, the largest value is in ``_MOST``.
PRIORS: Mapping[str, Prior] = {
    "efficiency": Prior(0.7, 1.5),
    "launch": Prior(5e-4, 2.5),
    "head_launch": Prior(3e-3, 3.0),
    "traffic": Prior(3.0, 1.5),
    "sync": Prior(2e-5, 2.0),
    "update": Prior(8.0, 2.0),
    "inside": Prior(0.7, 1.5),
    "between": Prior(0.6, 1.6),
    "overlap": Prior(0.2, 2.5),
    "step": Prior(5e-3, 3.0),
}
#: Of processes on cores: their products come near the peak, and what an operation costs besides weighs more.
CPU_PRIORS: Mapping[str, Prior] = {
    "efficiency": Prior(0.85, 1.2),
    "launch": Prior(2e-3, 3.0),
    "head_launch": Prior(4e-3, 3.0),
    "traffic": Prior(10.0, 2.5),
    "sync": Prior(5e-4, 3.0),
    "update": Prior(16.0, 2.5),
    "accumulate": Prior(16.0, 2.5),
    "inside": Prior(0.5, 1.8),
    "between": Prior(0.7, 1.6),
    "overlap": Prior(0.3, 2.0),
    "step": Prior(1e-2, 3.0),
}
_MOST = {"efficiency": 1.0, "inside": 1.0, "between": 1.0, "overlap": 0.95}

#: The seconds of a step of a row on given machines.
Predict = Callable[[Machines], float]


@dataclass(frozen=True)
class Fitted:
    """State the ``machines`` with fitted constants, and of each constant by what factor the rows leave it open."""

    machines: Machines
    open: Mapping[str, float]


def calibrated(machines: Machines, constants: Mapping[str, float]) -> Machines:
    """Return ``machines`` with other constants."""
    return replace(machines, calibration=replace(machines.calibration, **constants))


def usual_machines(machines: Machines, priors: Mapping[str, Prior] = PRIORS) -> Machines:
    """Return ``machines`` with constants as they usually are."""
    return calibrated(machines, {name: prior.value for name, prior in priors.items()})


def choose_rows(
    machines: Machines, predicts: Sequence[Predict], count: int, priors: Mapping[str, Prior] = PRIORS
) -> List[int]:
    """Return which rows to measure, ``count`` of them: those that say the most of the constants.

    One after the other, each the one that narrows them most beside those chosen before (the determinant of the
    information, D-optimal design; Fedorov 1972), by the usual constants: no measured time is looked at. Among equals
    the first.
    """
    names = list(priors)
    slopes = _slopes(machines, predicts, names, _start(priors, names)) / _NOISE
    information = np.diag([1 / np.log(priors[name].factor) ** 2 for name in names])
    chosen: List[int] = []
    for _ in range(min(count, len(predicts))):
        spread = np.linalg.inv(information)
        gains = np.einsum("ij,jk,ik->i", slopes, spread, slopes)
        gains[chosen] = -1.0
        best = int(np.argmax(gains > gains.max() * (1 - 1e-9)))
        chosen.append(best)
        information += np.outer(slopes[best], slopes[best])
    return chosen


def fit(
    machines: Machines,
    predicts: Sequence[Predict],
    seconds: Sequence[float],
    priors: Mapping[str, Prior] = PRIORS,
) -> Fitted:
    """Return ``machines`` with the constants by which ``predicts`` come nearest to ``seconds``."""
    names = list(priors)
    center = _start(priors, names)
    width = np.log([priors[name].factor for name in names])
    most = np.log([_MOST.get(name, np.inf) for name in names])
    measured = np.log(np.asarray(seconds, float))

    def residuals(point: np.ndarray) -> np.ndarray:
        off = (_logs(machines, predicts, names, point) - measured) / _NOISE
        return np.concatenate([off, (point - center) / width])

    point, damping = center.copy(), 1e-2
    here = residuals(point)
    for _ in range(60):
        slopes = np.vstack([_slopes(machines, predicts, names, point) / _NOISE, np.diag(1 / width)])
        square = slopes.T @ slopes
        while damping < 1e8:
            step = np.linalg.solve(square + damping * np.diag(np.diag(square)), -slopes.T @ here)
            there = np.minimum(point + np.clip(step, -1, 1), most)
            new = residuals(there)
            if new @ new < here @ here:
                break
            damping *= 4
        else:
            break
        moved = float(np.max(np.abs(there - point)))
        point, here, damping = there, new, damping / 3
        if moved < 1e-6:
            break
    slopes = np.vstack([_slopes(machines, predicts, names, point) / _NOISE, np.diag(1 / width)])
    spread = np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
    return Fitted(
        calibrated(machines, _constants(names, point)),
        {name: float(np.exp(one)) for name, one in zip(names, spread)},
    )


def _start(priors: Mapping[str, Prior], names: Sequence[str]) -> np.ndarray:
    return np.log([priors[name].value for name in names])


def _constants(names: Sequence[str], point: np.ndarray) -> Dict[str, float]:
    return {name: float(value) for name, value in zip(names, np.exp(point))}


def _logs(machines: Machines, predicts: Sequence[Predict], names: Sequence[str], point: np.ndarray) -> np.ndarray:
    there = calibrated(machines, _constants(names, point))
    return np.log([predict(there) for predict in predicts])


def _slopes(machines: Machines, predicts: Sequence[Predict], names: Sequence[str], point: np.ndarray) -> np.ndarray:
    """``[row, constant]``: by how much the logarithm of a step's time grows with that of a constant."""
    size, columns = 0.02, []
    for index in range(len(names)):
        up, down = point.copy(), point.copy()
        up[index] += size
        down[index] -= size
        high, low = (_logs(machines, predicts, names, one) for one in (up, down))
        columns.append((high - low) / (2 * size))
    return np.stack(columns, axis=1)


#: A process on a core: its products come near the peak, and what an operation costs besides weighs more.
CPU_USUAL = Calibration(
    efficiency=0.9,
    launch=2e-3,
    head_launch=4e-3,
    traffic=4.0,
    sync=1e-4,
    update=8.0,
    inside=1.0,
    between=1.0,
    sends=1.0,
    overlap=0.3,
    step=5e-3,
)


def default_calibration() -> Calibration:
    """Return the constants of a machine of which nothing was measured: the usual ones."""
    return Calibration(**{name: prior.value for name, prior in PRIORS.items()})
