"""Build ``li3ps4-gfn1.xyz``: lithium thiophosphate labelled with periodic GFN1-xTB.

Three polymorphs at their measured lattice constants:

* gamma, Pmn2_1, 297 K, and beta, Pnma, 637 K (Homma et al., Solid State Ionics 182, 53, 2011);
* alpha, cell of Homma et al., J. Phys. Soc. Jpn. 79SA, 90, 2010 (906 K, there Pbcn), in the space
  group Cmcm of Kaup et al., J. Mater. Chem. A 8, 12446, 2020.

Lithium is ordered in gamma only. In beta it fills 8d and 4b, one of the ordered models of Lepley et
al., Phys. Rev. B 88, 104103, 2013; in alpha 8e and 4c, the arrangement of lowest CHGNet energy on a
coarse grid of these two sites. The free coordinates below are rounded, not refined: CHGNet 0.3.0
relaxes them in the fixed cell, gamma and beta within their space group. The papers' tables were not
at hand when the cells of gamma and beta were entered. If the cell relaxes as well, CHGNet's lattice
constants are within 1.0 % (gamma) and 3.3 % (beta) of these. GFN1-xTB as tblite has it samples the
Gamma point alone, hence one size of cell.

From each polymorph, in a cell of 32 atoms: CHGNet molecular dynamics at several temperatures, and
strained and rattled copies. ``info["origin"]`` names the trajectory or the batch of copies; a split
goes by it, since frames of one trajectory resemble each other.

Run ``python data/structures/build_li3ps4.py`` to make the file again; it takes about 15 minutes on
one core, and molecular dynamics repeats itself only on the same machine.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixSymmetry
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE
from ase.spacegroup import crystal
from chgnet.model.dynamics import CHGNetCalculator
from labelling import label_with_gfn1_xtb
from tqdm.auto import tqdm

from umlip_latents import load_model

OUTPUT = Path(__file__).with_name("li3ps4-gfn1.xyz")
SEED = 20260102
TEMPERATURES = (300, 600, 900)
TRAJECTORIES = 2  # of each polymorph and temperature
FRAMES = 8  # of each trajectory
WAIT, STRIDE, STEP = 75, 30, 2.0  # steps before the first frame and between two, and fs of a step
BATCHES = 4  # of strained and rattled copies, FRAMES each


def polymorphs() -> dict[str, Atoms]:
    """Cells of 32 atoms, coordinates not yet relaxed."""
    gamma = crystal(
        ["Li", "Li", "P", "S", "S", "S"],
        [(0.25, 0.33, 0.99), (0, 0.16, 0.49), (0, 0.82, 0),
         (0.22, 0.67, 0.89), (0, 0.10, 0.89), (0, 0.81, 0.33)],
        spacegroup=31,
        cellpar=[7.70834, 6.53490, 6.13649, 90, 90, 90],
    )  # fmt: skip
    beta = crystal(
        ["Li", "Li", "P", "S", "S", "S"],
        [(0.33, 0, 0.7), (0, 0, 0.5), (0.09, 0.25, 0.66),
         (0.15, 0.03, 0.78), (0.94, 0.25, 0.67), (0.10, 0.25, 0.34)],
        spacegroup=62,
        cellpar=[12.8190, 8.2195, 6.1236, 90, 90, 90],
    )  # fmt: skip
    alpha = crystal(
        ["Li", "Li", "P", "S", "S"],
        [(0.3, 0, 0), (0, 0.85, 0.25), (0, 0.15, 0.25), (0, 0.28, 0.45), (0.19, 0.02, 0.25)],
        spacegroup=63,
        cellpar=[8.6125, 9.0211, 8.4262, 90, 90, 90],
    )
    return {"gamma": gamma.repeat((1, 1, 2)), "beta": beta, "alpha": alpha}


def relaxed(atoms: Atoms, calculator: Calculator, *, keep_symmetry: bool) -> Atoms:
    """Coordinates relaxed in the fixed cell to 0.05 eV/angstrom."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
    if keep_symmetry:
        atoms.set_constraint(FixSymmetry(atoms))
    else:
        atoms.rattle(0.02, seed=SEED)
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=300)
    atoms.set_constraint()
    return atoms


def strained(atoms: Atoms, sigma: float, rng: np.random.Generator) -> Atoms:
    """A copy under a random symmetric strain."""
    strain = rng.normal(0, sigma, (3, 3))
    copied = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    copied.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    return copied


def trajectory(
    parent: Atoms, calculator: Calculator, temperature: float, rng: np.random.Generator
) -> list[Atoms]:
    """Frames of Langevin dynamics in a slightly strained cell."""
    atoms = strained(parent, 0.01, rng)
    atoms.calc = calculator
    # half of it goes into the potential energy at once
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(
        atoms, STEP * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng
    )
    dynamics.run(WAIT)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(STRIDE)
        frames.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
    return frames


def rattled(parent: Atoms, rng: np.random.Generator) -> list[Atoms]:
    """Copies under a random strain (3 %) and random displacements (0.05 to 0.15 angstrom)."""
    found = []
    for _ in range(FRAMES):
        atoms = strained(parent, 0.03, rng)
        atoms.positions += rng.normal(0, rng.uniform(0.05, 0.15), atoms.positions.shape)
        found.append(atoms)
    return found


def build() -> list[Atoms]:
    """The unlabelled structures, in a fixed order."""
    rng = np.random.default_rng(SEED)
    calculator = CHGNetCalculator(load_model("chgnet-0.3.0").network, use_device="cpu")
    found = []
    for name, ideal in polymorphs().items():
        parent = relaxed(ideal, calculator, keep_symmetry=name != "alpha")
        origins = {
            f"{name} {temperature} K {i}": (temperature, rng.spawn(1)[0])
            for temperature in TEMPERATURES
            for i in range(TRAJECTORIES)
        } | {f"{name} rattled {i}": (0, rng.spawn(1)[0]) for i in range(BATCHES)}
        for origin, (temperature, stream) in tqdm(origins.items(), desc=name):
            frames = (
                trajectory(parent, calculator, temperature, stream)
                if temperature
                else rattled(parent, stream)
            )
            for frame in frames:
                frame.wrap()
                frame.info = {"polymorph": name, "temperature": temperature, "origin": origin}
            found += frames
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    structures = label_with_gfn1_xtb(build())
    temporary = OUTPUT.with_suffix(".tmp")
    write(temporary, structures, format="extxyz")
    temporary.replace(OUTPUT)
    print(f"{len(structures)} structures, {sum(map(len, structures))} atoms -> {OUTPUT.name}")
