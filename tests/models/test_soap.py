"""SOAP power spectra."""

import numpy as np
import pytest
from dscribe.descriptors import SOAP

from umlip_latents.models.soap import HYPERPARAMETERS, load
from umlip_latents.resources import registry

from . import checks
from .checks import deviation, latents, specimens


@pytest.fixture(scope="module")
def model():
    return load("soap", registry("models")["soap"])


class TestAdapter(checks.AdapterSuite):
    takes_device = False


def test_the_counting_density_is_that_of_one_species(model):
    plain = SOAP(species=[1], periodic=True, **HYPERPARAMETERS)
    width = plain.get_number_of_features()
    for atoms in specimens():
        same = model.prepare(atoms)
        same.numbers[:] = 1
        found = latents(model, [atoms])["backbone"]
        assert deviation(found[:, :width], plain.create(same)) < 1e-5


def test_elements_scale_the_weighted_densities(model):
    copper = specimens()[2]
    silver = copper.copy()
    silver.numbers[:] = 47
    one, other = (np.split(latents(model, [a])["last"], 3, axis=1) for a in (copper, silver))
    assert deviation(other[0], one[0]) < 1e-6
    assert deviation(other[1], one[1] * 47 / 29) < 1e-5
    assert deviation(other[2], one[2]) > 0.1
