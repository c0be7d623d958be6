"""Figures of classes and of numbers, as GLUE's tasks want them (Wang et al. 2019) and scikit-learn defines them.

All are fractions or coefficients of at most 1, and 0 where they are not defined (a correlation with what is all the
same, a precision of what was never said).
"""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

import numpy as np


def confusion(wanted: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Return how often class i was wanted where class j was said: int64 ``(classes, classes)``."""
    return np.bincount(wanted * classes + said, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(table: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return these three of each class, from a table of ``confusion``."""
    right, wanted, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    return _ratio(right, said), _ratio(right, wanted), _ratio(2 * right, wanted + said)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def accuracy(table: np.ndarray) -> float:
    """Return the share of samples whose class was said."""
    return float(np.trace(table) / table.sum())


def binary_f1(table: np.ndarray) -> float:
    """Return F1 of the second of two classes, the positive one."""
    return float(precision_recall_f1(table)[2][1])


def f1_macro(table: np.ndarray) -> float:
    """Return the mean F1 of the classes that were wanted or said."""
    there = table.sum(axis=0) + table.sum(axis=1) > 0
    return float(precision_recall_f1(table)[2][there].mean())


def matthews(table: np.ndarray) -> float:
    """Return Matthews' correlation coefficient, of any number of classes (R_K of Gorodkin 2004)."""
    numbers = table.astype(np.float64)
    wanted, said, total = numbers.sum(axis=1), numbers.sum(axis=0), numbers.sum()
    covariance = np.trace(numbers) * total - wanted @ said
    spread = (total**2 - said @ said) * (total**2 - wanted @ wanted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def pearson(wanted: np.ndarray, said: np.ndarray) -> float:
    """Return Pearson's correlation coefficient."""
    a, b = (np.asarray(values, np.float64) - np.mean(values, dtype=np.float64) for values in (wanted, said))
    # By their largest, so that squares neither overflow nor vanish.
    scales = [np.abs(values).max(initial=0.0) for values in (a, b)]
    if min(scales) == 0:
        return 0.0
    a, b = a / scales[0], b / scales[1]
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def spearman(wanted: np.ndarray, said: np.ndarray) -> float:
    """Return Spearman's: Pearson's of the ranks, where equal values share the mean of theirs."""
    return pearson(ranks(wanted), ranks(said))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, from 1; of equal ones the mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse.reshape(-1)]


#: Figures of classes by name, each of a table of ``confusion``.
OF_CLASSES: Dict[str, Callable[[np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": binary_f1,
    "f1_macro": f1_macro,
    "matthews": matthews,
}
#: Figures of numbers by name, each of what was wanted and what was said.
OF_NUMBERS: Dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"pearson": pearson, "spearman": spearman}
#: All of them: of each, more is better.
FIGURES = (*OF_CLASSES, *OF_NUMBERS)


def usual(classes: int) -> Sequence[str]:
    """Return the figures where nobody says; ``classes``: how many there are, 0 for a regression."""
    if classes == 0:
        return tuple(OF_NUMBERS)
    return tuple(name for name in OF_CLASSES if name != "f1" or classes == 2)
