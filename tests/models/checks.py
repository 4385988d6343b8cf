"""What the adapter of every family must prove, for any model behind the protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from scipy.spatial.transform import Rotation

from umlip_latents import list_models, load_model
from umlip_latents.models.base import LAYERS, LatentModel, Readout, Unsupported
from umlip_latents.resources import InputError


def at_hand(name: str) -> LatentModel:
    """A model of the catalogue; a test that needs its file is skipped where there is no copy."""
    try:
        return load_model(name)
    except InputError as error:
        if not re.search("cannot be downloaded|not at hand", str(error)):
            raise
        pytest.skip(str(error))


def specimens() -> list[Atoms]:
    """Salt, semiconductor, metal, molecule and slab, distorted: no symmetry hides an error."""
    found = [
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("Si", cubic=True),
        bulk("Cu", cubic=True),
        molecule("CH3CH2OH"),
        fcc111("Al", (2, 2, 2), vacuum=8),
    ]
    rng = np.random.default_rng(4)
    for atoms in found:
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    return found


def lonely() -> Atoms:
    """A salt molecule and an atom far from everything."""
    positions = [(0, 0, 0), (2.8, 0, 0), (12, 12, 12)]
    return Atoms("NaClNa", positions, cell=[24] * 3, pbc=True)


def kinds() -> list[Atoms]:
    """Structures of every kind that an adapter or its library might treat by a way of its own."""
    distorted = bulk("Si", cubic=True)
    distorted.rattle(0.08, seed=3)
    return [
        distorted,
        bulk("NaCl", "rocksalt", a=5.64),
        molecule("H2O"),
        fcc111("Al", (1, 1, 2), vacuum=8),
        bulk("Na"),  # no angle inside 3 angstrom
        bulk("Al", a=5.3),
        bulk("Cu", a=2.9),  # dense
        bulk("Cu", a=9.0),  # no neighbour inside 6 angstrom
        Atoms("Cl", cell=[5.5] * 3, pbc=True),  # inside 6, none inside 5
        Atoms("H"),
        molecule("H2"),  # one bond, part of no angle
        Atoms("NaCl", [(0, 0, 0), (3.4, 0, 0)]),  # outside an inner cutoff
        lonely(),
    ]


def with_known_elements(model: LatentModel, structures: Sequence[Atoms]) -> list[Atoms]:
    """The same geometries of elements that the model knows, as one of organic molecules needs."""
    known, changed = getattr(model, "elements", None), [atoms.copy() for atoms in structures]
    for atoms in changed:
        if known is not None and not np.isin(atoms.numbers, known).all():
            atoms.numbers = np.asarray(known)[atoms.numbers % len(known)]
    return changed


def latents(model: LatentModel, structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """All layers, in one batch."""
    return model.features([model.prepare(a) for a in with_known_elements(model, structures)])


def energies(model: LatentModel, structures: Sequence[Atoms]) -> np.ndarray:
    """(n_atoms,) in eV, as the model's readout has them, without those of the elements."""
    return Readout(*model.energy_readout()).energies(latents(model, structures)["last"])


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute deviation over the largest absolute value, unless all are zero."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))


def check_same(model, changed, structures, order=None, tolerance=1e-4) -> None:
    """The features of `changed` are those of `structures`, its atoms taken in `order`."""
    reference, found = latents(model, structures), latents(model, changed)
    for layer, expected in reference.items():
        rows = expected if order is None else expected[order]
        assert deviation(found[layer], rows) < tolerance, layer


def check_supercell(model, structures, tolerance=1e-4) -> None:
    """Doubling a crystal along each of its periodic directions repeats the rows."""
    for atoms in structures:
        repeats = np.where(atoms.pbc, 2, 1)
        rows = np.tile(np.arange(len(atoms)), int(repeats.prod()))
        check_same(model, [atoms.repeat(repeats)], [atoms], rows, tolerance)


def batch_deviations(model: LatentModel) -> dict[str, float]:
    """Largest deviation of each layer in mixed batches from a structure alone.

    All structures in the given order, in the reverse one, and begun at each of them; and each with
    its neighbour. Deviations are relative to the largest feature of the structure.
    """
    graphs = []
    for atoms in with_known_elements(model, kinds()):
        with suppress(Unsupported):
            graphs.append(model.prepare(atoms))
    assert len(graphs) >= 8
    alone = [model.features([graph]) for graph in graphs]
    whole = list(range(len(graphs)))
    turned = [whole[i:] + whole[:i] for i in whole]
    found = dict.fromkeys(alone[0], 0.0)
    for order in (*turned, whole[::-1], *(order[:2] for order in turned)):
        together = model.features([graphs[i] for i in order])
        for layer in found:
            ends = np.cumsum([len(alone[i][layer]) for i in order])
            parts = np.split(together[layer], ends[:-1])
            deviations = [deviation(x, alone[i][layer]) for i, x in zip(order, parts, strict=True)]
            found[layer] = float(np.max([found[layer], *deviations]))  # not a number stays so
    return found


class Reached(Exception):
    """The forward pass begins."""


class Recorder:
    """In place of a network: keeps the tensors that it is called with."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.model = self  # the part of its network that Orb calls

    def __call__(self, *args: Any, **options: Any) -> None:
        self.tensors = tensors_in((args, options))
        raise Reached


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors in containers, graphs and batches."""
    if isinstance(value, torch.Tensor):
        return [value]
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        value = list(value.values())
    elif hasattr(value, "__dict__"):
        value = list(vars(value).values())
    parts = value if isinstance(value, list | tuple) else []
    return [tensor for part in parts for tensor in tensors_in(part)]


def check_device(model, monkeypatch, structures) -> None:
    """No tensor on another device than the network's gets into the forward pass.

    `meta` is a device of PyTorch that every machine has.
    """
    graphs = [model.prepare(atoms) for atoms in with_known_elements(model, structures)]
    recorder = Recorder()
    monkeypatch.setattr(model, "network", recorder)
    monkeypatch.setattr(model, "device", torch.device("meta"))
    with pytest.raises(Reached):
        model.features(graphs)
    assert len(recorder.tensors) > 3
    assert {tensor.device.type for tensor in recorder.tensors} == {"meta"}


def check_precision(single, double, structures, tolerance=1e-4) -> None:
    """The same weights in single and in double precision agree."""
    one, other = latents(single, structures), latents(double, structures)
    for layer in LAYERS:
        assert one[layer].dtype == np.float32
        assert other[layer].dtype == np.float64
        assert deviation(one[layer], other[layer]) < tolerance, layer


def check_readout(model, structures, weight, bias, energies) -> None:
    """The final linear map on the last layer gives the library's atomic energies."""
    found = latents(model, structures)["last"] @ np.ravel(weight) + np.ravel(bias)
    assert deviation(found, np.ravel(energies)) < 1e-5


class AdapterSuite:
    """The tests that every family takes; its module adds the fixture ``model``."""

    rotation_is_learned = False  # from rotated copies of the training data, not built in
    isolated_atoms_accepted = True
    takes_device = True
    unknown = ("Og",)
    widths: tuple[int, int] | None = None  # of `LAYERS`; else those of the catalogue

    def test_features_are_finite_and_as_wide_as_promised(self, model):
        found = latents(model, specimens())
        assert found.keys() == model.widths.keys()
        for layer, rows in found.items():
            assert rows.shape == (sum(map(len, specimens())), model.widths[layer])
            assert np.isfinite(rows).all()
            assert rows.std(axis=0).max() > 0  # from atom to atom
        promised = list_models().get(model.name, {}).get("widths", model.widths)
        expected = self.widths or tuple(promised[layer] for layer in LAYERS)
        assert tuple(model.widths[layer] for layer in LAYERS) == expected

    def test_rotation(self, model):
        turned = specimens()
        for seed, atoms in enumerate(turned):
            rotation = Rotation.random(None, np.random.default_rng(seed))
            atoms.set_cell(rotation.apply(atoms.cell.array))
            atoms.positions = rotation.apply(atoms.positions)
        if self.rotation_is_learned:
            with pytest.raises(AssertionError):  # random weights have learned nothing
                check_same(model, turned, specimens())
        else:
            check_same(model, turned, specimens())

    def test_translation(self, model):
        """Whether the structure is wrapped back or not."""
        rng, shifted = np.random.default_rng(1), specimens()
        for i, atoms in enumerate(shifted):
            atoms.positions += rng.uniform(-5, 5, 3)
            if i % 2:
                atoms.wrap()
        check_same(model, shifted, specimens())

    def test_permutation(self, model):
        rng, start, rows, changed = np.random.default_rng(2), 0, [], []
        for atoms in specimens():
            order = rng.permutation(len(atoms))
            changed.append(atoms[order])
            rows.extend(start + order)
            start += len(atoms)
        check_same(model, changed, specimens(), rows)

    def test_supercell(self, model):
        check_supercell(model, specimens())

    def test_slab(self, model):
        """Across its vacuum a slab sees no image of itself, however thin that of the input."""
        slab = fcc111("Al", (2, 2, 2), vacuum=8)
        tight = slab.copy()
        tight.center(vacuum=0.5, axis=2)
        check_same(model, [tight], [slab])

    def test_box_around_a_molecule(self, model):
        """Periodic or not, it changes nothing."""
        free = molecule("CH3CH2OH")
        boxed = free.copy()
        boxed.center(vacuum=10)
        periodic = boxed.copy()
        periodic.pbc = True
        check_same(model, [boxed, periodic], [free, free])

    def test_alone_or_in_a_batch(self, model):
        found = batch_deviations(model)
        print(model.name, found)
        assert np.max(list(found.values())) < 1e-5, found

    def test_every_tensor_is_on_the_device_of_the_network(self, model, monkeypatch):
        if self.takes_device:
            check_device(model, monkeypatch, specimens())

    def test_geometry_changes_the_features(self, model):
        """Strain does, well above the noise."""
        strained = specimens()
        for atoms in strained:
            atoms.set_cell(atoms.cell * 1.05, scale_atoms=bool(atoms.pbc.any()))
            atoms.positions *= 1.0 if atoms.pbc.any() else 1.05
        one, other = latents(model, specimens()), latents(model, strained)
        for layer in LAYERS:
            assert deviation(other[layer], one[layer]) > 1e-3, layer

    def test_unknown_elements_are_refused_by_name(self, model):
        for symbol in self.unknown:
            with pytest.raises(Unsupported, match=symbol):
                model.prepare(Atoms(f"H{symbol}", [(0, 0, 0), (0, 0, 1.8)]))

    def test_isolated_atoms(self, model):
        """Where they are accepted, their features are finite, the same wherever they stand."""
        if not self.isolated_atoms_accepted:
            with pytest.raises(Unsupported, match="no neighbour"):
                model.prepare(lonely())
            return
        moved = lonely()
        moved.positions[2] += (1, 0, -1)
        check_same(model, [moved, Atoms("H"), bulk("Cu")], [lonely(), Atoms("H"), bulk("Cu")])
        assert all(np.isfinite(rows).all() for rows in latents(model, [lonely()]).values())
