"""Figures of classifications and regressions against formulas of another kind, and values of scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.plugins.libraries.classification.figures import OF_CLASSES, confusion, pearson, ranks, spearman, usual

pytestmark = pytest.mark.fast


def measured(wanted, said, classes):
    table = confusion(np.array(wanted), np.array(said), classes)
    return {name: figure(table) for name, figure in OF_CLASSES.items()}


def one_f1(wanted, said, which):
    right = sum(a == b == which for a, b in zip(wanted, said))
    precision = right / max(1, sum(b == which for b in said))
    recall = right / max(1, sum(a == which for a in wanted))
    return 2 * precision * recall / (precision + recall) if right else 0.0


def correlation_of_classes(wanted, said, classes):
    """Gorodkin's R_K by its definition: the covariances of the tables of ones."""
    x, y = (np.eye(classes)[values] - np.eye(classes)[values].mean(axis=0) for values in (wanted, said))
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return (x * y).sum() / spread if spread else 0.0


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_classes_by_other_formulas(classes, seed):
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, classes, 40)
    said = np.where(rng.random(40) < 0.5, wanted, rng.integers(0, classes - 1, 40))
    found = measured(wanted, said, classes)
    assert found["accuracy"] == pytest.approx(sum(a == b for a, b in zip(wanted, said)) / 40)
    there = sorted({*wanted.tolist(), *said.tolist()})
    assert found["f1_macro"] == pytest.approx(np.mean([one_f1(wanted, said, which) for which in there]))
    assert found["f1"] == pytest.approx(one_f1(wanted, said, 1))
    assert found["matthews"] == pytest.approx(correlation_of_classes(wanted, said, classes))
    if classes == 2:
        tp, tn, fp, fn = (sum((wanted == a) & (said == b)) for a, b in ((1, 1), (0, 0), (0, 1), (1, 0)))
        by_counts = (tp * tn - fp * fn) / np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) or 1.0)
        assert found["matthews"] == pytest.approx(by_counts)


def test_values_of_scikit_learn():
    """sklearn.metrics 1.9.1: accuracy_score, f1_score, matthews_corrcoef."""
    three = measured([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], 3)
    assert (three["f1_macro"], three["accuracy"]) == (pytest.approx(0.26666666666666666), pytest.approx(1 / 3))
    assert measured([1, 1, 1, 0], [1, 0, 1, 1], 2)["matthews"] == pytest.approx(-1 / 3)
    assert measured([1, 1], [1, 1], 2) == {"accuracy": 1.0, "f1": 1.0, "f1_macro": 1.0, "matthews": 0.0}
    assert measured([0, 1], [0, 0], 2) == {
        "accuracy": 0.5,
        "f1": 0.0,
        "f1_macro": pytest.approx(1 / 3),
        "matthews": 0.0,
    }


def by_pairs(values):
    """The rank of each: half, and one for every smaller one, and a half for every equal one."""
    return [0.5 + sum(b < a for b in values) + 0.5 * sum(b == a for b in values) for a in values]


@pytest.mark.parametrize("seed", range(5))
def test_correlations_by_other_formulas_with_equal_values(seed):
    rng = np.random.default_rng(seed)
    wanted, said = rng.integers(0, 6, 50) / 2, rng.integers(0, 9, 50).astype(np.float32) + 1e6
    assert ranks(wanted).tolist() == by_pairs(wanted)
    assert pearson(wanted, said) == pytest.approx(np.corrcoef(wanted, said)[0, 1], abs=1e-12)
    assert spearman(wanted, said) == pytest.approx(np.corrcoef(by_pairs(wanted), by_pairs(said))[0, 1], abs=1e-12)


def test_values_of_scipy():
    """scipy.stats 1.17.1: spearmanr, pearsonr."""
    assert spearman(np.arange(1, 6), np.array([5, 6, 7, 8, 7])) == pytest.approx(0.8207826816681233)
    assert pearson(np.arange(1, 8), np.array([10, 9, 2.5, 6, 4, 3, 2])) == pytest.approx(-0.8285038835884277)


def test_what_is_not_defined_is_zero_and_nothing_overflows():
    flat, rising = np.ones(4), np.arange(4.0)
    for figure in (pearson, spearman):
        assert figure(flat, rising) == figure(rising, flat) == figure(rising[:1], rising[:1]) == 0.0
        assert figure(rising * 1e200, rising * 1e-200) == pytest.approx(1.0)


def test_f1_alone_is_of_two_classes():
    assert usual(2) == ("accuracy", "f1", "f1_macro", "matthews") and "f1" not in usual(3)
    assert usual(0) == ("pearson", "spearman")
