"""Cumulants against independent formulas and the laws they obey."""

from math import factorial

import numpy as np
import pytest

from umlip_latents import cumulant_features
from umlip_latents.resources import InputError


def plain(x: np.ndarray, order: int) -> np.ndarray:
    """(order, d) cumulants of one sample, signed roots undone."""
    rooted = cumulant_features(x, np.array([len(x)]), order).reshape(order, -1)
    powers = np.arange(1, order + 1)[:, None]
    return np.concatenate([rooted[:1], np.sign(rooted[1:]) * np.abs(rooted[1:]) ** powers[1:]])


def by_generating_function(x: np.ndarray, order: int) -> np.ndarray:
    """Cumulants as Taylor coefficients of log E[exp(t x)], by the series of the logarithm."""
    moments = [np.mean(x**k) for k in range(order + 1)]
    series = np.polynomial.Polynomial([m / factorial(k) for k, m in enumerate(moments)])
    u = series - 1
    log, power = np.polynomial.Polynomial([0.0]), np.polynomial.Polynomial([1.0])
    for n in range(1, order + 1):
        power = (power * u).cutdeg(order)
        log = log + (-1) ** (n + 1) / n * power
    return np.array([log.coef[k] * factorial(k) for k in range(1, order + 1)])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_the_generating_function_to_order_8(seed):
    x = np.random.default_rng(seed).gamma(2.0, size=12)
    assert plain(x[:, None], 8)[:, 0] == pytest.approx(by_generating_function(x, 8), rel=1e-6)


def test_shift_moves_the_mean_alone_and_scale_scales_all():
    x = np.random.default_rng(4).gamma(1.5, size=(9, 4))
    base, moved, mirrored, scaled = (
        cumulant_features(y, np.array([9]), 8).reshape(8, 4) for y in (x, x + 2.5, -x, 3 * x)
    )
    assert moved[0] == pytest.approx(base[0] + 2.5)
    assert moved[1:] == pytest.approx(base[1:], abs=1e-4)
    assert mirrored == pytest.approx(np.array([-1, 1] * 4)[:, None] * base)
    assert scaled == pytest.approx(3 * base)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vanishing_by_symmetry_is_zero_not_noise(dtype):
    x = np.random.default_rng(7).normal(size=(4, 6))
    symmetric = (np.concatenate([1 + x, 1 - x])).astype(dtype)
    found = cumulant_features(symmetric, np.array([8]), 8).reshape(8, 6)
    assert (found[2::2] == 0).all()
    assert (np.abs(found[1]) > 0.1).all()


def test_structures_do_not_mix_and_order_of_atoms_is_irrelevant():
    rng = np.random.default_rng(8)
    parts = [rng.normal(size=(n, 3)) for n in (1, 4, 9, 2)]
    sizes = np.array([len(p) for p in parts])
    together = cumulant_features(np.concatenate(parts), sizes, 6)
    alone = [cumulant_features(p[rng.permutation(len(p))], np.array([len(p)]), 6) for p in parts]
    assert together == pytest.approx(np.concatenate(alone), abs=1e-10)


@pytest.mark.parametrize(
    ("shape", "n_atoms", "order", "message"),
    [
        ((4, 2), [4], 0, "order 0"),
        ((4, 2), [4], 9, "order 9"),
        ((4, 2), [3], 2, "add up to the rows"),
        ((4, 2), [4, 0], 2, "must be positive"),
        ((4,), [4], 2, "must be positive, and add up"),
        ((4, 2), [[4]], 2, "must be positive, and add up"),
    ],
)
def test_bad_input_is_refused(shape, n_atoms, order, message):
    with pytest.raises(InputError, match=message):
        cumulant_features(np.zeros(shape), np.array(n_atoms), order)
