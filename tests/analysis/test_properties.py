"""Element share, variation, retention."""

import numpy as np
import pytest

from umlip_latents.analysis.properties import (
    element_share,
)


def test_element_share_in_its_limits():
    numbers = np.repeat([1, 6, 8], 50)
    rng = np.random.default_rng(0)
    means = rng.normal(size=(120, 4))
    assert element_share(means[numbers], numbers) == pytest.approx(1)
    assert element_share(rng.normal(size=(150, 4)), numbers) < 0.1
    mixed = means[numbers] + rng.normal(size=(150, 4))
    between = ((means[[1, 6, 8]] - means[[1, 6, 8]].mean(axis=0)) ** 2).sum() / 3
    assert element_share(mixed, numbers) == pytest.approx(between / (between + 4), abs=0.1)
