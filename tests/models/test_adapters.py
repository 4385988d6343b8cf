"""What every model must prove before its features mean anything."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from pymatgen.core import Structure

from umlip_latents import extract_features, list_models
from umlip_latents.analysis import invariance_deviations, rotated, translated
from umlip_latents.models.base import LAYERS, Unsupported, padded_cell

from ..conftest import REAL, TWINS

NETWORKS = (*REAL, *TWINS)


@pytest.mark.parametrize("name", [*NETWORKS, "element"])
def test_widths_are_those_of_the_catalogue(models, crystals, name):
    for layer in LAYERS:
        found = extract_features(crystals, models[name], layer, progress=False)
        assert found.features.shape == (
            sum(map(len, crystals)),
            list_models()[name]["widths"][layer],
        )
        assert np.isfinite(found.features).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_parameters_is_that_of_the_catalogue(models, name):
    count = sum(p.numel() for p in models[name].network.parameters())
    assert count == list_models()[name]["parameters"]


@pytest.mark.parametrize("name", NETWORKS)
def test_periodic_invariances(models, crystals, name):
    for operation, deviation in invariance_deviations(models[name], crystals).items():
        assert deviation < 1e-4, operation


@pytest.mark.parametrize("name", NETWORKS)
def test_a_molecule_may_be_turned_shifted_or_boxed(models, ethanol, name):
    rng = np.random.default_rng(0)
    boxed = ethanol.copy()
    boxed.center(vacuum=10)
    versions = [ethanol, rotated(ethanol, rng), translated(ethanol, rng), boxed]
    boxed_periodic = boxed.copy()
    boxed_periodic.pbc = True
    found = extract_features([*versions, boxed_periodic], models[name], progress=False)
    parts = np.split(found.features, 5)
    for part in parts[1:]:
        assert part == pytest.approx(parts[0], abs=1e-4 * float(np.abs(parts[0]).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_slab_does_not_see_its_images(models, name):
    slab = fcc111("Al", (1, 1, 3), vacuum=10)
    assert list(slab.pbc) == [True, True, False]
    tight = slab.copy()
    tight.center(vacuum=0.5, axis=2)
    found = extract_features([slab, tight], models[name], progress=False).features
    assert found[3:] == pytest.approx(found[:3], abs=1e-4 * float(np.abs(found).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_geometry_changes_the_features(models, crystals, name):
    strained = [a.copy() for a in crystals]
    for atoms in strained:
        atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)
    one = extract_features(crystals, models[name], progress=False).features
    other = extract_features(strained, models[name], progress=False).features
    assert np.abs(one - other).max() > 1e-4 * np.abs(one).max()


@pytest.mark.parametrize("name", [n for n in NETWORKS if "chgnet" in n])
def test_chgnet_last_layer_gives_the_library_energy(models, crystals, name):
    model = models[name]
    last = extract_features(crystals, model, "last", progress=False).features
    readout = model.network.mlp.layers[-1]
    mine = last @ readout.weight.detach().numpy()[0] + readout.bias.item()
    graphs = [model.prepare(a) for a in crystals]
    with torch.no_grad():
        site = model.network(graphs, return_site_energies=True)["site_energies"]
        composition = model.network.composition_model.get_site_energies(graphs)
    theirs = torch.cat([s - c for s, c in zip(site, composition, strict=True)]).numpy()
    assert mine == pytest.approx(theirs, abs=2e-5)


@pytest.mark.parametrize("name", [n for n in NETWORKS if "chgnet" in n])
def test_chgnet_backbone_gives_the_last_layer(models, crystals, name):
    model = models[name]
    backbone = extract_features(crystals, model, "backbone", progress=False).features
    last = extract_features(crystals, model, "last", progress=False).features
    with torch.no_grad():
        hidden = model.network.mlp.layers[:-1](torch.from_numpy(backbone)).numpy()
    assert hidden == pytest.approx(last, abs=1e-5)


@pytest.mark.parametrize("name", ["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan"])
def test_chgnet_is_loaded_as_the_library_loads_it(models, crystals, name):
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    version = name.removeprefix("chgnet-")
    theirs = CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, models[name].network.state_dict()[key]), key
    structure = AseAtomsAdaptor.get_structure(crystals[0])
    expected = theirs.predict_structure(structure, task="e")["e"]
    with torch.no_grad():
        found = models[name].network([models[name].prepare(crystals[0])], task="e")["e"].item()
    assert found == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", [n for n in NETWORKS if "mace" in n])
def test_mace_layers_are_those_of_the_library(models, crystals, name):
    from mace.tools import torch_geometric

    model = models[name]
    graphs = [model.prepare(a) for a in crystals]
    batch = torch_geometric.Batch.from_data_list(graphs).to_dict()
    with torch.no_grad():
        out = model.network(batch, compute_force=False)
    found = model.features(graphs)
    # with scalar hidden features only, the library's node features are the backbone
    assert found["backbone"] == pytest.approx(out["node_feats"].numpy(), abs=1e-6)
    start = 0
    energy = np.zeros(len(found["last"]))
    for linear in model.last_maps:
        width = linear.irreps_in.dim
        weights = linear.weight.detach().numpy() / np.sqrt(width)  # e3nn's path normalisation
        energy += found["last"][:, start : start + width] @ weights
        start += width
    network = model.network
    shift, scale = network.scale_shift.shift.item(), network.scale_shift.scale.item()
    isolated = network.atomic_energies_fn(batch["node_attrs"]).detach().numpy()[:, 0]
    assert scale * energy + shift + isolated == pytest.approx(out["node_energy"].numpy(), abs=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_alone_or_in_a_batch_is_the_same(models, crystals, ethanol, name):
    structures = [*crystals, ethanol]
    together = extract_features(structures, models[name], progress=False)
    alone = [extract_features([a], models[name], progress=False).features for a in structures]
    scale = float(np.abs(together.features).max())
    assert together.features == pytest.approx(np.concatenate(alone), abs=1e-5 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_unknown_elements_are_refused_by_name(models, name):
    with pytest.raises(Unsupported, match="Og"):
        models[name].prepare(Atoms("HOg", [(0, 0, 0), (0, 0, 1.8)]))


@pytest.mark.parametrize("name", [n for n in NETWORKS if "chgnet" in n])
def test_chgnet_refuses_isolated_atoms(models, lonely, name):
    with pytest.raises(Unsupported, match="no neighbour"):
        models[name].prepare(lonely)


def test_mace_accepts_isolated_atoms(models, lonely):
    found = extract_features([lonely, bulk("Cu")], models["book-mace-mptrj"], progress=False)
    assert np.isfinite(found.features).all()


def test_element_model_is_one_hot(models, crystals):
    found = extract_features(crystals, models["element"], progress=False)
    assert (found.features.sum(axis=1) == 1).all()
    assert (found.features.argmax(axis=1) + 1 == found.numbers).all()


def test_padded_cell_keeps_periodic_directions(ethanol):
    slab = fcc111("Al", (2, 2, 3), vacuum=3)
    padded = padded_cell(slab, 12)
    assert padded[:2] == pytest.approx(slab.cell.array[:2])
    assert np.linalg.norm(padded[2]) > np.ptp(slab.positions[:, 2]) + 12
    assert np.abs(np.linalg.det(padded_cell(ethanol, 12))) > 12**3


def test_the_graph_of_chgnet_is_that_of_its_converter(models, crystals, ethanol):
    converter = models["chgnet-0.3.0"].network.graph_converter
    for atoms in (*crystals, ethanol, crystals[0] * (2, 1, 1)):
        found = models["chgnet-0.3.0"].prepare(atoms)
        cell = padded_cell(atoms, 12.0)
        expected = converter(
            Structure(cell, atoms.numbers, atoms.positions, coords_are_cartesian=True)
        )
        assert torch.equal(found.atom_graph, expected.atom_graph)
        assert torch.equal(found.neighbor_image, expected.neighbor_image)
        # undirected edges are numbered differently: the same pairs, the same angles
        for graph in (found, expected):
            assert (graph.directed2undirected[graph.undirected2directed].diff() == 1).all()
        same = [g.directed2undirected[:, None] == g.directed2undirected for g in (found, expected)]
        assert torch.equal(*same)
        angles = [sorted(g.bond_graph[:, [0, 2, 4]].tolist()) for g in (found, expected)]
        assert angles[0] == angles[1]
        both = found.directed2undirected[found.bond_graph[:, [2, 4]].long()]
        assert torch.equal(both, found.bond_graph[:, [1, 3]])
