"""Orb: randomly initialised networks of the published architectures, narrower."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from orb_models.forcefield import pretrained
from orb_models.forcefield.atomic_system import SystemConfig

from umlip_latents.models.orb import OrbModel, load
from umlip_latents.resources import registry

from . import checks
from .checks import latents, specimens

SMALL = {
    "latent_dim": 32,
    "base_mlp_hidden_dim": 48,
    "head_mlp_hidden_dim": 24,
    "num_message_passing_steps": 2,
    "device": "cpu",
}


def network(kind: str, neighbours: int = 120) -> torch.nn.Module:
    build = getattr(pretrained, f"orb_v3_{kind}_architecture")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(**SMALL, system_config=SystemConfig(6.0, neighbours))


@pytest.fixture(scope="module", params=["conservative", "direct"])
def model(request) -> OrbModel:
    return OrbModel(network(request.param), f"small-{request.param}")


class TestAdapter(checks.AdapterSuite):
    rotation_is_learned = True
    unknown = ("Po", "Og")
    widths = (32, 24)


def test_neighbours_beyond_the_limit_are_left_out_in_any_cell():
    checks.check_supercell(OrbModel(network("direct", neighbours=20), "small-20"), specimens()[:3])


def library_energy(model, atoms) -> float:
    """Normalised energy per atom, before the pair repulsion and the reference energies."""
    graph = model.prepare(atoms)
    with torch.no_grad():
        nodes = model.network.model(graph)["node_features"]
        return model.network.heads["energy"](nodes, graph).item()


def test_readout_of_the_mean_backbone_is_the_energy(model):
    readout = model.network.heads["energy"].mlp
    for atoms in specimens():
        mean = torch.tensor(latents(model, [atoms])["backbone"].mean(axis=0))
        assert readout(mean).item() == pytest.approx(library_energy(model, atoms), abs=1e-5)


def test_last_layer_gives_the_energy_per_atom_of_equivalent_atoms(model):
    structures = [bulk("Cu"), bulk("Cu").repeat((2, 1, 2)), bulk("Al")]
    energies = [library_energy(model, a) for a in structures for _ in a]
    final = model.network.heads["energy"].mlp[-2]
    weight, bias = final.weight.detach().numpy(), final.bias.detach().numpy()
    checks.check_readout(model, structures, weight, bias, energies)


def test_load_takes_the_entry_of_the_catalogue(tmp_path):
    name = "orb-v3-direct-20-omat"
    entry = registry("models")[name]
    built = pretrained.orb_v3_direct_architecture(device="cpu")
    assert sum(p.numel() for p in built.parameters()) == entry["parameters"]
    torch.save(built.state_dict(), tmp_path / "orb.ckpt")
    found = load(name, {**entry, "path": tmp_path / "orb.ckpt"})
    assert found.widths == entry["widths"]
    assert found.fingerprint != OrbModel(built, name).fingerprint  # of no cutoff yet
    assert found.fingerprint == OrbModel(found.network, name).fingerprint
    assert found.network.system_config.max_num_neighbors == 20
    assert np.isfinite(latents(found, [bulk("Cu")])["last"]).all()
