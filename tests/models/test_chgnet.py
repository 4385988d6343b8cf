"""CHGNet: the published checkpoints."""

from pathlib import Path

import chgnet
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from chgnet.model import CHGNet
from pymatgen.io.ase import AseAtomsAdaptor

from umlip_latents import list_models, load_model
from umlip_latents.models.base import Unsupported
from umlip_latents.models.chgnet import ChgnetModel
from umlip_latents.resources import InputError

from . import checks
from .checks import energies, latents, specimens

SLOW = pytest.param("chgnet-r2scan", marks=pytest.mark.slow)  # built as 0.3.0 is
PUBLISHED = ("chgnet-0.2.0", "chgnet-0.3.0", SLOW)
SOURCE = Path(chgnet.__file__).parent / "pretrained" / list_models()["chgnet-0.3.0"]["file"]


@pytest.fixture(scope="module", params=PUBLISHED)
def model(models, request) -> ChgnetModel:
    return models[request.param]


class TestAdapter(checks.AdapterSuite):
    isolated_atoms_accepted = False  # CHGNet's own graph has no place for them


def test_last_layer_gives_the_energies_of_the_library(model, crystals):
    """Which adds those of the composition."""
    graphs = [model.prepare(a) for a in crystals]
    with torch.no_grad():
        site = model.network(graphs, return_site_energies=True)["site_energies"]
        composition = model.network.composition_model.get_site_energies(graphs)
    theirs = torch.cat([s - c for s, c in zip(site, composition, strict=True)]).numpy()
    assert energies(model, crystals) == pytest.approx(theirs, abs=1e-4)


def test_backbone_lies_between_the_last_interaction_and_the_last_layer(model):
    found = {name: torch.from_numpy(x) for name, x in latents(model, specimens()).items()}
    assert list(found)[2:] == [f"interaction-{i}" for i in (1, 2, 3, 4)]
    norm = model.network.readout_norm or torch.nn.Identity()
    with torch.no_grad():
        normed = norm(found["interaction-4"])
        hidden = model.network.mlp.layers[:-1](found["backbone"])
    assert found["backbone"].numpy() == pytest.approx(normed.numpy(), abs=1e-5)
    assert found["last"].numpy() == pytest.approx(hidden.numpy(), abs=1e-5)


def test_it_is_loaded_as_the_library_loads_it(model, crystals):
    version = model.name.removeprefix("chgnet-")
    theirs = CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    for atoms in (crystals[0], bulk("K"), bulk("Ar", "fcc", a=5.3)):  # with angles, and without
        structure = AseAtomsAdaptor.get_structure(atoms)
        expected = theirs.predict_structure(structure, task="ef")
        energy, forces = model.energy_and_forces(atoms)
        assert energy == pytest.approx(float(expected["e"]), abs=1e-5)
        assert forces == pytest.approx(expected["f"], abs=1e-4)


def test_energy_forces_and_stress_do_not_depend_on_the_batch(model):
    """Structures without an angle and with some, in turn."""
    graphs = [model.prepare(a) for a in (bulk("K"), *specimens()[:3], bulk("Ar", "fcc", a=5.3))]
    together = model.derivatives(graphs)
    for i, graph in enumerate(graphs):
        alone = model.derivatives([graph])
        for key in "efs":
            one, other = alone[key][0].detach().numpy(), together[key][i].detach().numpy()
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4), key


def test_a_file_loads_by_path_and_its_cutoff_is_part_of_what_it_is(tmp_path, models):
    assert load_model(SOURCE).fingerprint == models["chgnet-0.3.0"].fingerprint
    state = torch.load(SOURCE, weights_only=True, map_location="cpu")
    state["model"]["model_args"]["atom_graph_cutoff"] = 5.0
    torch.save({"model": state["model"]}, tmp_path / "edited.pth.tar")
    edited = load_model(tmp_path / "edited.pth.tar")
    assert edited.fingerprint != models["chgnet-0.3.0"].fingerprint
    with pytest.raises(Unsupported, match="no neighbour inside 5 angstrom"):
        edited.prepare(Atoms("Cl", cell=[5.5] * 3, pbc=True))


def test_pickled_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"model": Bomb()}, tmp_path / "bad.pth.tar")
    with pytest.raises(InputError, match="UnpicklingError: Weights only load failed") as caught:
        load_model(tmp_path / "bad.pth.tar")
    assert "weights_only" not in str(caught.value)  # torch's advice
    assert not (tmp_path / "exploded").exists()
