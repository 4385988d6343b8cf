"""Build ``embedded.xyz``, the small, chemically diverse set that ships with the book.

The recipe follows the MAD data set (Mazitov et al., arXiv:2506.19674): a little of every kind of
atomistic structure, each structure labelled by ``subset``. Ingredients: the AFLOW prototypes that
come with pymatgen (Mehl et al. 2017), ASE's ``dcdft`` elemental crystals (Lejaeghere et al. 2014),
``g2`` molecules (Curtiss et al. 1997) and ``s22`` dimers (Jurecka et al. 2006). Everything else is
derived from these with one fixed seed.

Run ``python data/structures/build.py`` to write the file again; a test rebuilds and compares it, up
to lattice vectors: some atoms of the file lie on the other side of their cell.
"""

from __future__ import annotations

import gzip
import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pymatgen.analysis
from ase import Atoms
from ase.build import bulk, graphene, mx2, surface
from ase.collections import dcdft, g2, s22
from ase.data import chemical_symbols, covalent_radii, reference_states
from ase.io import write
from ase.neighborlist import neighbor_list
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

OUTPUT = Path(__file__).with_name("embedded.xyz")
SEED = 20260101
MAX_ATOMS = 64
# every element of MPtrj but the four light noble gases that its random sample lacks
ELEMENTS = [z for z in range(1, 95) if z not in (2, 10, 18, 54, *range(84, 89))]
# closest approach in units of the sum of the covalent radii (H2 has 1.19, I2 0.96)
MIN_RATIO = 0.7
# cubic angstrom per atom; close-packed hydrogen at its covalent radius would have a tenth of it,
# and make the features of CHGNet 0.2.0 grow by ten orders of magnitude
MIN_VOLUME = 3.0
# every atom sees a neighbour inside the shortest cutoff of the compared models
MAX_GAP = 5.0
VACUUM = 7.5


def closest_ratio(atoms: Atoms) -> float:
    """Smallest interatomic distance over the sum of the two covalent radii."""
    i, j, d = neighbor_list("ijd", atoms, 10.0)
    radii = covalent_radii[atoms.numbers]
    return float((d / (radii[i] + radii[j])).min(initial=np.inf))


def is_sensible(atoms: Atoms) -> bool:
    """Small enough, known elements, no clash, no absurd density and no isolated atom."""
    if not len(atoms) + atoms.pbc.sum() > 1 or len(atoms) > MAX_ATOMS:
        return False
    if atoms.pbc.all() and atoms.get_volume() < MIN_VOLUME * len(atoms):
        return False
    if not np.isin(atoms.numbers, ELEMENTS).all():
        return False
    i, j, d = neighbor_list("ijd", atoms, MAX_GAP)
    radii = covalent_radii[atoms.numbers]
    return (d >= MIN_RATIO * (radii[i] + radii[j])).all() and len(np.unique(i)) == len(atoms)


def rescaled(atoms: Atoms, ratio: float) -> Atoms:
    """Scale the cell so that the closest pair sits at `ratio` covalent sums."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * (ratio / closest_ratio(atoms)), scale_atoms=True)
    return atoms


def labelled(atoms: Atoms, subset: str, name: str) -> Atoms:
    """Keep geometry only, with its labels."""
    clean = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    clean.info = {"subset": subset, "name": name}
    return clean


def prototypes() -> list[Atoms]:
    """AFLOW prototypes with their published species and lattice."""
    file = next(Path(pymatgen.analysis.__path__[0]).rglob("aflow_prototypes.json.gz"))
    found = []
    for entry in json.loads(gzip.decompress(file.read_bytes())):
        atoms = AseAtomsAdaptor.get_atoms(Structure.from_dict(entry["snl"]))
        found.append(labelled(atoms, "bulk", entry["tags"]["aflow"]))
    return sorted(found, key=lambda a: (a.info["name"], a.get_chemical_formula(), a.get_volume()))


def elemental() -> list[Atoms]:
    """ASE's dcdft elemental crystals."""
    return [labelled(dcdft[name], "bulk", f"dcdft {name}") for name in dcdft.names]


def rattled(parents: list[Atoms], count: int, rng: np.random.Generator) -> list[Atoms]:
    """Parents under a random strain (3 %) and random displacements (0.02 to 0.15 angstrom)."""
    found = []
    small = [a for a in parents if 2 <= len(a) <= 24]
    while len(found) < count:
        atoms = small[rng.integers(len(small))].copy()
        strain = rng.normal(0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.15), atoms.positions.shape)
        if is_sensible(atoms):
            found.append(labelled(atoms, "rattled", atoms.info["name"]))
    return found


def random_species(parents: list[Atoms], count: int, rng: np.random.Generator) -> list[Atoms]:
    """Prototypes whose species are replaced at random, the volume following the radii."""
    found = []
    small = [a for a in parents if 2 <= len(a) <= 24]
    deck: list[int] = []
    while len(found) < count:
        atoms = small[rng.integers(len(small))].copy()
        species = np.unique(atoms.numbers)
        if len(deck) < len(species):  # deal every element equally often
            deck = list(rng.permutation(ELEMENTS))
        swap = {old: deck.pop() for old in species}
        atoms.numbers = [swap[z] for z in atoms.numbers]
        atoms = rescaled(atoms, rng.uniform(1.0, 1.2))
        if is_sensible(atoms):
            found.append(labelled(atoms, "random", atoms.info["name"]))
    return found


def known_crystals() -> list[tuple[str, Atoms]]:
    """Elements in their ASE reference state and a few textbook compounds."""
    found = []
    for z in ELEMENTS:
        state = reference_states[z]
        if state and state["symmetry"] in ("fcc", "bcc", "hcp", "diamond") and "basis" not in state:
            symbol = chemical_symbols[z]
            found.append((symbol, bulk(symbol, cubic=state["symmetry"] != "hcp")))
    rocksalt = {"NaCl": 5.64, "MgO": 4.21, "LiF": 4.03, "KBr": 6.60, "TiN": 4.24, "PbS": 5.94}
    zincblende = {"GaAs": 5.65, "ZnS": 5.41, "InP": 5.87, "SiC": 4.36, "CdTe": 6.48}
    fluorite = {"CaF2": 5.46, "CeO2": 5.41, "ZrO2": 5.09}
    cesiumchloride = {"CsCl": 4.12, "NiAl": 2.89}
    for kind, table in {
        "rocksalt": rocksalt,
        "zincblende": zincblende,
        "fluorite": fluorite,
        "cesiumchloride": cesiumchloride,
    }.items():
        found += [(f, bulk(f, kind, a=a, cubic=True)) for f, a in table.items()]
    return found


def surfaces(crystals: list[tuple[str, Atoms]], rng: np.random.Generator) -> list[Atoms]:
    """Slabs of low Miller index, one random face per crystal, gently rattled."""
    faces = [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    found = []
    for name, crystal in crystals:
        face = (0, 0, 1) if crystal.cell.angles()[2] > 100 else faces[rng.integers(3)]
        for layers in (4, 3, 2):
            slab = surface(crystal, face, layers, vacuum=VACUUM)
            if len(slab) <= 24:
                break
        # ASE wraps without tolerance: rounding, which differs between processors, would decide on
        # which side of the cell an atom on its boundary ends up
        slab.wrap(pbc=(True, True, False), eps=1e-6)
        slab.positions += rng.normal(0, 0.03, slab.positions.shape)
        slab.pbc = (True, True, False)
        if is_sensible(slab):
            found.append(labelled(slab, "surface", f"{name} ({''.join(map(str, face))})"))
    return found


def clusters(crystals: list[tuple[str, Atoms]], rng: np.random.Generator) -> list[Atoms]:
    """The 6 to 26 atoms nearest to a random point of a crystal, gently rattled."""
    found = []
    for name, crystal in crystals:
        block = crystal.repeat(5)
        centre = block.cell.sum(axis=0) / 2 + rng.uniform(-1, 1, 3)
        order = np.argsort(np.linalg.norm(block.positions - centre, axis=1), kind="stable")
        atoms = block[order[: rng.integers(6, 27)]]
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
        atoms.pbc = False
        atoms.center(vacuum=VACUUM)
        if is_sensible(atoms):
            found.append(labelled(atoms, "cluster", name))
    return found


def layers_2d(rng: np.random.Generator) -> list[Atoms]:
    """Honeycombs and MX2 sheets, cells scaled to the covalent radii, 2 x 2, gently rattled."""
    sheets = [graphene(f, size=(1, 1, 1), vacuum=VACUUM) for f in ("C2", "Si2", "Ge2", "Sn2")]
    sheets += [graphene(f, size=(1, 1, 1), vacuum=VACUUM) for f in ("BN", "GaN", "AlN", "ZnO")]
    metals = [
        "Ti",
        "Zr",
        "Hf",
        "V",
        "Nb",
        "Ta",
        "Cr",
        "Mo",
        "W",
        "Mn",
        "Re",
        "Fe",
        "Co",
        "Ni",
        "Pd",
        "Pt",
        "Sn",
        "Pb",
        "Mg",
        "Ca",
        "Zn",
        "Cd",
    ]
    anions = ["S", "Se", "Te", "Cl", "Br", "I", "O"]
    for metal, anion in rng.permutation(list(itertools.product(metals, anions)))[:52]:
        kind = ("2H", "1T")[rng.integers(2)]
        sheets.append(mx2(f"{metal}{anion}2", kind=kind, a=3.3, thickness=3.2, vacuum=VACUUM))
    found = []
    for sheet in sheets:
        factor = rng.uniform(1.0, 1.08) / closest_ratio(sheet)
        sheet.set_cell(sheet.cell * factor, scale_atoms=True)
        sheet.center(vacuum=VACUUM, axis=2)
        sheet = sheet.repeat((2, 2, 1))
        sheet.positions += rng.normal(0, 0.05, sheet.positions.shape)
        sheet.pbc = (True, True, False)
        if is_sensible(sheet):
            found.append(labelled(sheet, "2d", sheet.get_chemical_formula()))
    return found


def molecules(collection, subset: str) -> list[Atoms]:
    """A collection of ASE in boxes, without single atoms."""
    found = []
    for name in collection.names:
        atoms = collection[name]
        if len(atoms) > 1:
            atoms.center(vacuum=VACUUM)
            atoms.pbc = False
            found.append(labelled(atoms, subset, name))
    return found


def build() -> list[Atoms]:
    """The whole set, in a fixed order."""
    rng = np.random.default_rng(SEED)
    parents = [a for a in (*prototypes(), *elemental()) if is_sensible(a)]
    crystals = known_crystals()
    return [
        *parents,
        *rattled(parents, 110, rng),
        *random_species(parents, 130, rng),
        *surfaces(crystals, rng),
        *clusters(crystals, rng),
        *layers_2d(rng),
        *[a for a in molecules(g2, "molecule") if is_sensible(a)],
        *[a for a in molecules(s22, "dimer") if is_sensible(a)],
    ]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    structures = build()
    temporary = OUTPUT.with_suffix(".tmp")
    write(temporary, structures, format="extxyz")
    temporary.replace(OUTPUT)
    print(f"{len(structures)} structures, {sum(map(len, structures))} atoms -> {OUTPUT.name}")
