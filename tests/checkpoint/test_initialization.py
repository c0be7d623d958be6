"""Initial weights and dropout: what they depend on, what they must not, and whether they look random."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeloom.core.checkpoint.initialization import initial_value
from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.dropout_masks import kept_mask
from pipeloom.core.data.dropout_seeds import dropout_seeds

pytestmark = pytest.mark.fast


def normal(name, seed=1, shape=(40, 50), **more):
    return initial_value(ParameterSpec(name, shape, **more), seed)


def test_an_initial_value_depends_on_the_seed_and_the_name_only():
    value = normal("a.weight")
    np.random.seed(5)
    normal("b.weight")
    assert (normal("a.weight", decay=False) == value).all()
    assert (normal("a.weight", shape=(50, 40)).ravel() == value.ravel()).all()
    assert (normal("a.weight", std=0.04) == 2 * value).all()
    # Not almost: no value in common, so not a shifted stream either.
    for other in (normal("b.weight"), normal("a.weight", seed=2), normal("a.weight", seed=2**63)):
        assert other.shape == value.shape and not np.isin(value, other).mean() > 0.01


def test_initial_values_are_frozen():
    # A change of these is a change of every published curve.
    assert normal("bert.pooler.dense.weight", seed=1234, shape=(2, 2)).ravel() == pytest.approx(
        [-0.021134166, -0.022188196, 0.015708748, -0.021033999], rel=1e-6
    )


def test_they_are_normal_with_the_standard_deviation_that_is_asked_for():
    value = normal("bert.embeddings.word_embeddings.weight", shape=(1000, 300)) / 0.02
    assert value.dtype == np.float32
    n = value.size
    assert abs(value.mean()) < 4 / math.sqrt(n) and abs(value.std() - 1) < 4 / math.sqrt(2 * n)
    assert abs((value**3).mean()) < 4 * math.sqrt(15 / n) and abs((value**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert 4 < abs(value).max() < 6.5  # not truncated


def test_parameters_of_one_model_are_independent():
    rows = np.stack([normal(f"layer.{number}.weight", shape=(100, 100)).ravel() for number in range(12)])
    assert abs(np.corrcoef(rows) - np.eye(12)).max() < 5 / math.sqrt(10_000)


def test_zeros_ones_and_nothing_else():
    assert (normal("x", init="zeros") == 0).all() and (normal("x", init="ones") == 1).all()
    assert normal("x", init="ones").dtype == normal("x", init="zeros").dtype == np.float32
    with pytest.raises(ValueError, match="parameter x: unknown init 'uniform'"):
        normal("x", init="uniform")


def test_dropout_seeds_depend_on_seed_step_and_position_only():
    seeds = dropout_seeds(7, 3, 32)
    assert seeds.shape == (32, 2) and seeds.dtype == np.int32
    np.random.seed(1)
    dropout_seeds(7, 4, 5)
    assert (dropout_seeds(7, 3, 32) == seeds).all()
    for batch in (1, 8, 31, 256):  # a sample's seeds do not depend on how many there are
        size = min(batch, 32)
        assert (dropout_seeds(7, 3, batch)[:size] == seeds[:size]).all()


def test_dropout_seeds_do_not_repeat():
    many = np.concatenate([dropout_seeds(seed, step, 64) for seed in (0, 1, 2**63) for step in (0, 1, 2, 10**6)])
    assert len(np.unique(many, axis=0)) == len(many)
    assert abs(many.astype(np.float64).mean()) < 4 * 2**32 / math.sqrt(12 * many.size)
    assert many.min() < -0.99 * 2**31 and many.max() > 0.99 * 2**31


#: 4 layers x 4 steps x 8 samples x 16384 positions: two million draws.
LAYERS, STEPS, SAMPLES, SIZE = [f"bert.encoder.layer.{n}.output" for n in range(4)], (0, 1, 2, 1000), 8, 128 * 128


def correlation(a, b, p):
    """How far two masks are from independent, in standard deviations."""
    kept = 1 - p
    return ((a - kept) * (b - kept)).mean() / (p * kept) * math.sqrt(a.size)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_look_random(p):
    masks = np.stack(
        [[kept_mask(name, p, dropout_seeds(1234, step, SAMPLES), SIZE) for step in STEPS] for name in LAYERS]
    )
    assert masks.shape == (4, 4, SAMPLES, SIZE) and masks.dtype == bool and masks.size > 2_000_000
    kept, sigma = masks.mean(), math.sqrt(p * (1 - p))
    assert abs(kept - (1 - p)) < 4 * sigma / math.sqrt(masks.size)
    # Of each mask, and of each position over all masks: as spread as binomial, not more, not less.
    for axes, count in (((0, 1, 2), 4 * 4 * SAMPLES), ((3,), SIZE)):
        rates = (masks.mean(axis=axes) - (1 - p)) / (sigma / math.sqrt(count))
        assert abs(rates).max() < 5.5 and abs((rates**2).mean() - 1) < 5 * math.sqrt(2 / rates.size)
    m = masks.astype(np.float32)
    pairs = {
        "layers": [(m[a], m[b]) for a in range(4) for b in range(a)],
        "steps": [(m[:, a], m[:, b]) for a in range(4) for b in range(a)],
        "samples": [(m[:, :, a], m[:, :, b]) for a in range(SAMPLES) for b in range(a)],
        "neighbours": [(m[..., gap:], m[..., :-gap]) for gap in (1, 2, 3, 4, 64, 128, 256, 4096)],
    }
    for kind, both in pairs.items():
        worst = max(abs(correlation(a, b, p)) for a, b in both)
        assert worst < 5, f"{kind}: {worst:.1f} standard deviations"


def test_masks_depend_on_place_seeds_and_position_only():
    seeds = dropout_seeds(1, 2, 8)
    mask = kept_mask("here", 0.1, seeds, 64)
    assert (kept_mask("here", 0.1, seeds[3:5], 64) == mask[3:5]).all()  # any micro-batch
    assert (kept_mask("here", 0.1, seeds, 64) == mask).all()
    assert (kept_mask("there", 0.1, seeds, 64) != mask).any()
    # What a lower rate drops, a higher one drops too.
    assert not (mask < kept_mask("here", 0.3, seeds, 64)).any()
    assert kept_mask("here", 0.0, seeds, 64).all()


@pytest.mark.parametrize("bit", [0, 1, 15, 30])
@pytest.mark.parametrize("column", [0, 1])
def test_each_bit_of_a_seed_changes_the_whole_mask(bit, column):
    one = np.int32([[123456789, 987654321]]) + np.arange(200, dtype=np.int32)[:, None] * np.int32(7919)
    other = one.copy()
    other[:, column] ^= np.int32(1 << bit)
    masks = [kept_mask("here", 0.5, seeds, 512) for seeds in (one, other)]
    assert abs((masks[0] != masks[1]).mean() - 0.5) < 4 * 0.5 / math.sqrt(200 * 512)
