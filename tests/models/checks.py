"""What the adapter of every family must prove, for any model behind the protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from umlip_latents import load_model
from umlip_latents.models.base import LAYERS, LatentModel, Unsupported
from umlip_latents.properties import rotated, translated
from umlip_latents.resources import InputError

# lattices, constants in angstrom, PBE: Haas, Tran and Blaha, Phys. Rev. B 79, 085104 (2009)
CRYSTALS = {
    "NaCl": ("rocksalt", 5.70),
    "Si": ("diamond", 5.47),
    "Cu": ("fcc", 3.63),
    "MgO": ("rocksalt", 4.26),
}


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


def latents(model: LatentModel, structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Both layers, in one batch."""
    return model.features([model.prepare(atoms) for atoms in structures])


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute deviation over the largest absolute value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def check_same(model, changed, structures, order=None, tolerance=1e-4) -> None:
    """The features of `changed` are those of `structures`, its atoms taken in `order`."""
    reference, found = latents(model, structures), latents(model, changed)
    for layer in LAYERS:
        expected = reference[layer] if order is None else reference[layer][order]
        assert deviation(found[layer], expected) < tolerance, layer


def check_widths(model: LatentModel, structures: Sequence[Atoms]) -> None:
    """Finite arrays of the promised width, one row an atom, that differ from atom to atom."""
    found = latents(model, structures)
    for layer in LAYERS:
        assert found[layer].shape == (sum(map(len, structures)), model.widths[layer])
        assert np.isfinite(found[layer]).all()
        assert found[layer].std(axis=0).max() > 0


def check_rotation(model, structures, tolerance=1e-4) -> None:
    """Turning a structure with its cell changes nothing."""
    rng = np.random.default_rng(0)
    check_same(model, [rotated(a, rng) for a in structures], structures, tolerance=tolerance)


def check_translation(model, structures, tolerance=1e-4) -> None:
    """Shifting a structure changes nothing."""
    rng = np.random.default_rng(1)
    check_same(model, [translated(a, rng) for a in structures], structures, tolerance=tolerance)


def check_permutation(model, structures, tolerance=1e-4) -> None:
    """Reordering the atoms reorders the rows."""
    rng = np.random.default_rng(2)
    orders = [rng.permutation(len(a)) for a in structures]
    starts = np.cumsum([0, *map(len, structures)])[:-1]
    changed = [a[order] for a, order in zip(structures, orders, strict=True)]
    rows = np.concatenate([s + order for s, order in zip(starts, orders, strict=True)])
    check_same(model, changed, structures, rows, tolerance)


def check_supercell(model, structures, tolerance=1e-4) -> None:
    """Doubling a crystal along each of its periodic directions repeats the rows."""
    for atoms in structures:
        repeats = np.where(atoms.pbc, 2, 1)
        rows = np.tile(np.arange(len(atoms)), int(repeats.prod()))
        check_same(model, [atoms.repeat(repeats)], [atoms], rows, tolerance)


def check_slab(model, tolerance=1e-4) -> None:
    """Across its vacuum a slab sees no image of itself, however thin the vacuum of the input."""
    slab = fcc111("Al", (2, 2, 2), vacuum=8)
    tight = slab.copy()
    tight.center(vacuum=0.5, axis=2)
    check_same(model, [tight], [slab], tolerance=tolerance)


def check_box(model, tolerance=1e-4) -> None:
    """A large box around a molecule, periodic or not, changes nothing."""
    free = molecule("CH3CH2OH")
    boxed = free.copy()
    boxed.center(vacuum=10)
    periodic = boxed.copy()
    periodic.pbc = True
    for version in (boxed, periodic):
        check_same(model, [version], [free], tolerance=tolerance)


def check_batch(model, structures, tolerance=1e-5) -> None:
    """The same result alone and in a batch."""
    together = latents(model, structures)
    alone = [latents(model, [atoms]) for atoms in structures]
    for layer in LAYERS:
        expected = np.concatenate([part[layer] for part in alone])
        assert deviation(together[layer], expected) < tolerance, layer


def check_geometry(model, structures) -> None:
    """Strain changes the features well above the noise."""
    strained = [a.copy() for a in structures]
    for atoms in strained:
        atoms.set_cell(atoms.cell * 1.05)
        atoms.positions *= 1.05
    one, other = latents(model, structures), latents(model, strained)
    for layer in LAYERS:
        assert deviation(other[layer], one[layer]) > 1e-3, layer


def check_precision(single, double, structures, tolerance=1e-4) -> None:
    """The same weights in single and in double precision agree."""
    one, other = latents(single, structures), latents(double, structures)
    for layer in LAYERS:
        assert one[layer].dtype == np.float32
        assert other[layer].dtype == np.float64
        assert deviation(one[layer], other[layer]) < tolerance, layer


def check_readout(model, structures, weight, bias, energies, tolerance=1e-5) -> None:
    """The final linear map on the last layer gives the library's atomic energies."""
    found = latents(model, structures)["last"] @ np.ravel(weight) + np.ravel(bias)
    assert deviation(found, np.ravel(energies)) < tolerance


def check_lattice_constants(
    energies: Callable[[list[Atoms]], np.ndarray], expected: Sequence[float]
) -> None:
    """Minima of cubics through nine energies, of which `energies` gives those of all atoms."""
    scales = np.linspace(0.95, 1.06, 9)
    for (crystal, (lattice, near)), known in zip(CRYSTALS.items(), expected, strict=True):
        cells = [bulk(crystal, lattice, a=near * scale) for scale in scales]
        curve = energies(cells).reshape(9, -1).sum(axis=1)
        cubic = np.polynomial.Polynomial.fit(near * scales, curve, 3)
        minima = [x.real for x in cubic.deriv().roots() if cubic.deriv(2)(x.real) > 0]
        assert minima == pytest.approx([known], rel=0.002), crystal


def check_refusal(model: LatentModel, symbol: str) -> None:
    """An element that the model does not know is named."""
    with pytest.raises(Unsupported, match=symbol):
        model.prepare(Atoms(f"H{symbol}", [(0, 0, 0), (0, 0, 1.8)]))


def lonely() -> Atoms:
    """A salt molecule and an atom far from everything."""
    positions = [(0, 0, 0), (2.8, 0, 0), (12, 12, 12)]
    return Atoms("NaClNa", positions, cell=[24] * 3, pbc=True)


def check_isolated_accepted(model: LatentModel) -> None:
    """An atom without neighbours has finite features, the same wherever it stands."""
    atoms, moved = lonely(), lonely()
    moved.positions[2] += (1, 0, -1)
    check_widths(model, [atoms])
    check_same(model, [moved], [atoms])


class AdapterSuite:
    """The tests that every family takes; its module adds the fixture ``model``."""

    rotation_is_learned = False  # from rotated copies of the training data, not built in
    isolated_atoms_accepted = True
    unknown = ("Og",)

    def test_features_are_finite_and_as_wide_as_promised(self, model):
        check_widths(model, specimens())

    def test_rotation(self, model):
        if self.rotation_is_learned:
            with pytest.raises(AssertionError):  # random weights have learned nothing
                check_rotation(model, specimens())
        else:
            check_rotation(model, specimens())

    def test_translation(self, model):
        check_translation(model, specimens())

    def test_permutation(self, model):
        check_permutation(model, specimens())

    def test_supercell(self, model):
        check_supercell(model, specimens())

    def test_slab(self, model):
        check_slab(model)

    def test_box_around_a_molecule(self, model):
        check_box(model)

    def test_alone_or_in_a_batch(self, model):
        check_batch(model, specimens())

    def test_geometry_changes_the_features(self, model):
        check_geometry(model, specimens())

    def test_unknown_elements_are_refused_by_name(self, model):
        for symbol in self.unknown:
            check_refusal(model, symbol)

    def test_isolated_atoms(self, model):
        if self.isolated_atoms_accepted:
            check_isolated_accepted(model)
        else:
            with pytest.raises(Unsupported, match="no neighbour"):
                model.prepare(lonely())
