"""The uncertainty of the last layer: a spread that is known is found, and nothing else matters."""

import numpy as np
import pytest

from umlip_latents import Features, InputError
from umlip_latents.analysis.uncertainty import last_layer_uncertainty


def model(x, n_atoms):
    """Features whose means over the atoms of each structure are x."""
    atoms, kept = np.repeat(x, n_atoms, axis=0), np.arange(len(x))
    return Features(atoms, np.full(len(x), n_atoms), np.ones(len(atoms), int), kept)


@pytest.fixture(scope="module")
def drawn():
    """Means of last layers, and errors whose spread grows with them as in the formula."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)) * [5, 2, 1, 0.1]
    sigma = 0.02 * np.sqrt(np.square(x / [5, 2, 1, 0.1]).sum(axis=1))
    return x, sigma, sigma * rng.normal(size=3000)


def test_a_known_spread_is_found(drawn):
    x, sigma, errors = drawn
    found = last_layer_uncertainty(model(x[:2000], 2), errors[:2000], model(x[2000:], 2))
    assert np.abs(found / sigma[2000:] - 1).max() < 0.1
    within = np.abs(errors[2000:]) < found
    assert within.mean() == pytest.approx(0.683, abs=0.03)  # of a normal distribution


def test_a_turned_last_layer_says_the_same(drawn):
    x, _, errors = drawn
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    plain, turned = (
        last_layer_uncertainty(model(y[:500], 2), 3 * errors[:500], model(y[500:600], 1))
        for y in (x, 7 * x @ turn)
    )
    assert turned.to_numpy() == pytest.approx(plain.to_numpy())


def test_errors_that_are_not_as_many_are_refused(drawn):
    known = model(drawn[0][:10], 1)
    with pytest.raises(InputError, match="each kept structure needs one finite error"):
        last_layer_uncertainty(known, np.zeros(9), known)
