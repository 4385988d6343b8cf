"""Element share, and what is left of a quantity above the elements."""

import numpy as np
import pytest

from umlip_latents.analysis.properties import above_elements, element_share
from umlip_latents.resources import InputError


def test_element_share_in_its_limits():
    numbers = np.repeat([1, 6, 8], 50)
    rng = np.random.default_rng(0)
    means = rng.normal(size=(120, 4))
    assert element_share(means[numbers], numbers) == pytest.approx(1)
    assert element_share(rng.normal(size=(150, 4)), numbers) < 0.1
    mixed = means[numbers] + rng.normal(size=(150, 4))
    between = ((means[[1, 6, 8]] - means[[1, 6, 8]].mean(axis=0)) ** 2).sum() / 3
    assert element_share(mixed, numbers) == pytest.approx(between / (between + 4), abs=0.1)


def test_what_is_left_above_the_elements_is_what_was_added():
    rng = np.random.default_rng(0)
    shares, added = rng.dirichlet(np.ones(4), 200), 0.1 * rng.normal(size=200)
    shares = np.insert(shares, 2, 0, axis=1)  # an element that no structure has
    left = above_elements(shares @ [1, -2, 9, 3, 4] + added, shares)
    assert left == pytest.approx(added, abs=0.05)
    assert left.std() == pytest.approx(added.std(), rel=0.05)


@pytest.mark.parametrize("shares", [np.eye(4)[[*range(4), 0]], np.full((9, 2), 0.5)])
def test_a_fit_to_the_elements_that_is_not_determined_is_not_made(shares):
    with pytest.raises(InputError, match="structures do not determine a value for each of"):
        above_elements(np.arange(len(shares)), shares)
