"""The error of every atom: each held out once, in the units of the GFRE."""

import numpy as np
import pytest

from umlip_latents import Features
from umlip_latents.measures.reconstruction import atom_errors


def features(tables: dict[str, np.ndarray], numbers: np.ndarray) -> dict[str, Features]:
    """Tables as the features of structures of five atoms."""
    n = len(numbers) // 5
    return {k: Features(x, np.full(n, 5), numbers, np.arange(n)) for k, x in tables.items()}


@pytest.fixture
def clouds() -> dict[str, Features]:
    """A source that holds its target exactly, one that holds a half of it, and two elements."""
    rng = np.random.default_rng(0)
    x, numbers = rng.normal(size=(400, 2)), np.tile([8, 8, 8, 14, 14], 80)
    return features({"both": x @ rng.normal(size=(2, 3)), "one": x[:, :1], "x": x}, numbers)


def test_errors_are_zero_where_the_source_holds_the_target_and_half_the_variance_if_one_axis(
    clouds,
):
    errors = atom_errors(clouds)
    assert errors["both", "x"].max() < 1e-6
    assert (errors["one", "x"] ** 2).mean() == pytest.approx(0.5, abs=0.1)
    assert (errors["mean", "x"] ** 2).mean() == pytest.approx(1, abs=0.05)


def test_what_moves_with_the_element_alone_is_not_missed_within_elements(clouds):
    shift = {name: 50.0 * (f.numbers[:, None] == 14) for name, f in clouds.items()}
    moved = {
        name: Features(f.features + shift[name], f.n_atoms, f.numbers, f.kept)
        for name, f in clouds.items()
    }
    plain, shifted = (atom_errors(f, ["x"], within_element=True) for f in (clouds, moved))
    assert {target for _, target in plain} == {"x"}
    np.testing.assert_allclose(plain, shifted, atol=1e-6)


def test_an_element_that_is_too_rare_has_no_error_within_elements(clouds):
    numbers = clouds["x"].numbers.copy()
    numbers[:3] = 92
    rare = {n: Features(f.features, f.n_atoms, numbers, f.kept) for n, f in clouds.items()}
    errors = atom_errors(rare, within_element=True)
    assert errors.iloc[:3].isna().all(axis=None)
    assert errors.iloc[3:].notna().all(axis=None)
