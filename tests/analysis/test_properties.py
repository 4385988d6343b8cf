"""Element share, variation, retention."""

import numpy as np
import pytest

from umlip_latents import Features, compare
from umlip_latents.analysis.properties import (
    element_share,
    pretraining_retention,
    varying,
)
from umlip_latents.measures.compare import Split
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


def test_features_that_do_not_vary_where_all_have_them_are_left_out():
    def model(values, kept):
        x = np.array(values, dtype=float)[:, None]
        return Features(x, np.ones(len(x), int), np.array([1, 1, 8])[kept], np.array(kept))

    everywhere = {"element": model([0, 0, 1], [0, 1, 2]), "own": model([3, 4, 5], [0, 1, 2])}
    assert list(varying(everywhere)) == ["element", "own"]
    assert list(varying(everywhere, within_element=True)) == ["own"]
    hydrogen_alone = everywhere | {"narrow": model([6, 7], [0, 1])}
    assert list(varying(hydrogen_alone)) == ["own", "narrow"]


def test_retention_of_known_features():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(900, 4))
    new = {name: rng.normal(size=(900, 4)) for name in ("a", "b")}
    mixed = np.hstack([start[:, :2], new["a"][:, :2]])  # half of its variance is new
    features = {
        "pretrained": start,
        "turned": start @ np.linalg.qr(rng.normal(size=(4, 4)))[0],
        "mixed": mixed,
        "bespoke 0": new["a"],
        "bespoke 1": new["b"],
    }
    about = np.full(90, 10), np.full(900, 14), np.arange(90)
    errors = compare(
        {n: Features(x, *about) for n, x in features.items()}, split=Split(n_test=200), n_splits=3
    )
    found = pretraining_retention(errors, ["bespoke 0", "bespoke 1"])
    assert found.loc["turned", "retention"] == pytest.approx(1, abs=1e-6)
    assert found.loc["mixed", "retention"] == pytest.approx(1 - np.sqrt(0.5), abs=0.05)
    assert found.loc["bespoke 0", "retention"] == pytest.approx(0, abs=0.05)
    assert (found["low"] <= found["retention"]).all()
    assert (found["retention"] <= found["high"]).all()
    for few in (["bespoke 0"], ["bespoke 0", "absent"]):
        with pytest.raises(InputError, match=r"bespoke 0.*two or more"):
            pretraining_retention(errors, few)
