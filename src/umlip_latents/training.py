"""Training: a MACE from a recipe, and short fine-tunings of CHGNet, epoch by epoch."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from tqdm.auto import tqdm

from .models.chgnet import ChgnetModel, quietly, untrained
from .resources import InputError, sha256
from .structures import load_structures, split_structures

PROTOCOLS = ("full fine-tuning", "heads fine-tuning", "bespoke")


# MACE from a recipe ---------------------------------------------------------------------------


def train_mace(recipe_file: str | Path, output: str | Path) -> dict:
    """Train the MACE of a recipe with mace-torch's own code and write safetensors and its card.

    Parameters
    ----------
    recipe_file
        JSON: ``datasets``, their split (``held_out``, ``validation``, ``split_seed``), the info key
        ``group`` of which no value may be on both sides, and under ``mace`` the arguments of
        mace-torch's ``run_train`` by name.
    output
        The ``.safetensors`` to write; the JSON card goes beside it. Scratch files stay in a folder
        of the same name, from which an interrupted training goes on.

    Returns
    -------
    dict
        The card: recipe, SHA-256 of recipe and data, curve, held-out errors.
    """
    from .models import mace as mace_family  # mace first, then its trainer

    recipe_file, output = Path(recipe_file), Path(output)
    try:
        recipe = json.loads(recipe_file.read_text(encoding="utf-8"))
        structures = [a for name in recipe["datasets"] for a in load_structures(name)]
        sizes = (recipe["held_out"], recipe["validation"])
        arguments = dict(recipe["mace"])
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{recipe_file}: is not a usable recipe ({error!r}).") from None
    held_out, validation, training = split_structures(structures, sizes, recipe["split_seed"])
    validation, training = (
        np.setdiff1d(part, same_group(structures, held_out, recipe["group"]))
        for part in (validation, training)
    )
    scratch = output.with_suffix("")
    scratch.mkdir(parents=True, exist_ok=True)
    for name, part in {"training": training, "validation": validation}.items():
        write(scratch / f"{name}.xyz", [labelled(structures[i]) for i in part])
    arguments |= {
        "name": recipe["name"],
        "work_dir": str(scratch),
        "train_file": str(scratch / "training.xyz"),
        "valid_file": str(scratch / "validation.xyz"),
        "error_table": "PerAtomMAE",
        "restart_latest": True,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    run_mace(arguments)
    network = mace_family.load_pickled(scratch / f"{recipe['name']}.model").to("cpu")
    curve = [
        json.loads(line)
        for file in sorted((scratch / "results").glob("*_train.txt"))
        for line in file.read_text().splitlines()
        if '"eval"' in line
    ]
    card = {
        "name": recipe["name"],
        "recipe": recipe,
        "data_sha256": {name: dataset_sha256(name) for name in recipe["datasets"]},
        "n_structures": {
            "training": len(training),
            "validation": len(validation),
            "held out": len(held_out),
        },
        "selection": "the epoch of lowest validation loss",
        "validation_curve": [
            {
                "epoch": e["epoch"],
                "loss": e["loss"],
                "energy_mae_meV_per_atom": 1000 * e["mae_e_per_atom"],
                "force_mae_meV_per_angstrom": 1000 * e["mae_f"],
            }
            for e in curve
        ],
        "held_out_errors": mace_errors(network, [structures[i] for i in held_out]),
        "linear_baseline_errors": composition_baseline(
            [structures[i] for i in training], [structures[i] for i in held_out]
        ),
    }
    mace_family.save_network(network, output, card)
    return card


def same_group(structures: Sequence[Atoms], chosen: np.ndarray, key: str) -> list[int]:
    """Indices of the structures that share their group with a chosen one."""
    groups = {structures[i].info[key] for i in chosen}
    return [i for i, atoms in enumerate(structures) if atoms.info[key] in groups]


def run_mace(arguments: dict) -> None:
    """Call mace-torch's trainer with these arguments."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    flags = {"amsgrad", "ema", "restart_latest", "swa"}
    words = [
        f"--{key}" if key in flags else f"--{key}={value}"
        for key, value in arguments.items()
        if not (key in flags and not value)
    ]
    run(build_default_arg_parser().parse_args(words))


def labelled(atoms: Atoms) -> Atoms:
    """A copy whose labels stand under the keys that mace-torch reads."""
    copied = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copied.info["REF_energy"] = atoms.get_potential_energy()
    copied.arrays["REF_forces"] = atoms.get_forces()
    copied.info["REF_stress"] = atoms.get_stress(voigt=False).ravel()
    return copied


def dataset_sha256(name: str) -> str:
    """The registered SHA-256 of a data set, or that of the file."""
    from .structures import list_datasets

    entry = list_datasets().get(name)
    return entry["sha256"] if entry else sha256(Path(name))


def mace_errors(network: torch.nn.Module, structures: Sequence[Atoms]) -> dict[str, float]:
    """Errors of a MACE against the labels, as `error_summary`."""
    from mace.tools import torch_geometric

    from .models.mace import MaceModel

    model = MaceModel(network, "mace")
    energy, force = [], []
    for atoms in structures:
        batch = torch_geometric.Batch.from_data_list([model.prepare(atoms)])
        found = network(batch.to_dict(), compute_force=True)
        energy.append((found["energy"].item() - atoms.get_potential_energy()) / len(atoms))
        force.append(found["forces"].detach().numpy() - atoms.get_forces())
    return error_summary(energy, force)


def composition_baseline(training: Sequence[Atoms], test: Sequence[Atoms]) -> dict[str, float]:
    """Errors of a least-squares energy per element and zero forces: what no geometry can give."""
    counts = [np.bincount(a.numbers, minlength=120) / len(a) for a in training]
    energies = [a.get_potential_energy() / len(a) for a in training]
    per_element = np.linalg.lstsq(np.array(counts), np.array(energies), rcond=None)[0]
    energy = [
        np.bincount(a.numbers, minlength=120) @ per_element / len(a)
        - a.get_potential_energy() / len(a)
        for a in test
    ]
    return error_summary(energy, [a.get_forces() for a in test])


def error_summary(energy: Sequence[float], force: Sequence[np.ndarray]) -> dict[str, float]:
    """Errors in meV from per-atom energy errors and force errors in eV."""
    forces = np.concatenate(force)
    return {
        "energy_mae_meV_per_atom": 1000 * float(np.mean(np.abs(energy))),
        "force_mae_meV_per_angstrom": 1000 * float(np.mean(np.abs(forces))),
        "force_rmse_meV_per_angstrom": 1000 * float(np.sqrt(np.mean(np.square(forces)))),
    }


# Fine-tuning CHGNet ---------------------------------------------------------------------------


CRYSTALS = {
    "Li2S": ("SLi2", "fluorite", 5.72),
    "Na2O": ("ONa2", "fluorite", 5.55),
    "LiF": ("LiF", "rocksalt", 4.03),
    "MgO": ("MgO", "rocksalt", 4.21),
}


def rattled_crystal(formula: str, count: int, *, seed: int = 0) -> list[Atoms]:
    """Conventional cells of a crystal under random strain (3 %) and displacements (0.1 angstrom).

    Parameters
    ----------
    formula
        One of `CRYSTALS`, at its experimental lattice constant.
    count
        Number of structures.
    seed
        Of the random numbers.
    """
    if formula not in CRYSTALS:
        raise InputError(f"{formula}: no such crystal, only {', '.join(CRYSTALS)}.")
    name, kind, a = CRYSTALS[formula]
    ideal = bulk(name, kind, a=a, cubic=True)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = ideal.copy()
        strain = rng.normal(0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        found.append(atoms)
    return found


def label_with_gfn1_xtb(structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies with energy, forces and stress by periodic GFN1-xTB (tblite), in eV and angstrom.

    Raises
    ------
    InputError
        The self-consistent cycle of a structure fails; the message names its index.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from tblite.ase import TBLite

    done = []
    for index, atoms in enumerate(tqdm(structures, desc="GFN1-xTB", unit="structure")):
        copied = atoms.copy()
        copied.calc = TBLite(method="GFN1-xTB", verbosity=0)
        try:
            results = {
                "energy": copied.get_potential_energy(),
                "forces": copied.get_forces(),
                "stress": copied.get_stress(),
            }
        except Exception as error:  # tblite raises several kinds
            raise InputError(f"structure {index}: GFN1-xTB failed ({error}).") from error
        copied.calc = SinglePointCalculator(copied, **results)
        done.append(copied)
    return done


@dataclass
class FineTuning:
    """One fine-tuning run, epoch by epoch; entry 0 is the state before any step.

    Attributes
    ----------
    protocol
        One of `PROTOCOLS`.
    states
        Raw weights of every epoch, never a best-so-far.
    energy_mae
        Test error of every epoch in meV/atom.
    force_mae
        Test error of every epoch in meV/angstrom.
    """

    protocol: str
    states: list[dict[str, torch.Tensor]]
    energy_mae: list[float]
    force_mae: list[float]


def fine_tune_chgnet(
    network,
    training: Sequence[Atoms],
    test: Sequence[Atoms],
    protocol: str,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
) -> FineTuning:
    """Fine-tune a CHGNet on energies and forces and keep the weights of every epoch.

    The loss is that of CHGNet's trainer for energies and forces: a Huber loss (delta = 0.1) of
    the energy per atom in eV plus one of the force components in eV/angstrom, minimised by Adam
    with a cosine schedule. Energies are aligned by composition energies fitted to the training
    part, which take the place of the checkpoint's own.

    Parameters
    ----------
    network
        The pretrained `chgnet.model.CHGNet`; it is not changed.
    training, test
        Labelled structures.
    protocol
        ``"full fine-tuning"`` trains every weight, ``"heads fine-tuning"`` the readout MLP alone,
        ``"bespoke"`` every weight of a freshly drawn network.
    epochs, learning_rate, batch_size, seed
        The usual; the seed also draws the weights of a bespoke network.

    Raises
    ------
    InputError
        Unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"{protocol}: no such protocol, only {', '.join(PROTOCOLS)}.")
    network = untrained(network, seed) if protocol == "bespoke" else copy.deepcopy(network)
    network.composition_model = None
    for name, parameter in network.named_parameters():
        parameter.requires_grad = protocol != "heads fine-tuning" or name.startswith("mlp.")
    reference = element_energies(training)
    model = ChgnetModel(network, protocol)
    data = [(model.prepare(a), *targets(a, reference)) for a in training]
    checks = [(model.prepare(a), *targets(a, reference)) for a in test]
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=learning_rate)
    steps = epochs * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    rng = np.random.default_rng(seed)
    huber = torch.nn.HuberLoss(delta=0.1)
    run = FineTuning(protocol, [], [], [])
    record(run, network, checks)
    for _ in tqdm(range(epochs), desc=protocol, unit="epoch"):
        network.train()
        for batch in np.array_split(rng.permutation(len(data)), -(-len(data) // batch_size)):
            graphs, energies, forces = zip(*(data[i] for i in batch), strict=True)
            found = network(list(graphs), task="ef")
            loss = huber(found["e"], torch.tensor(energies)) + huber(
                torch.cat(found["f"]), torch.cat(forces)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        record(run, network, checks)
    return run


def element_energies(structures: Sequence[Atoms]) -> np.ndarray:
    """(120,) least-squares energy of each element in eV, zero for elements not present."""
    counts = np.array([np.bincount(a.numbers, minlength=120) for a in structures], dtype=float)
    energies = np.array([a.get_potential_energy() for a in structures])
    return np.linalg.lstsq(counts, energies, rcond=None)[0]


def targets(atoms: Atoms, reference: np.ndarray) -> tuple[float, torch.Tensor]:
    """Energy per atom above the reference in eV, and forces in eV/angstrom."""
    energy = (atoms.get_potential_energy() - reference[atoms.numbers].sum()) / len(atoms)
    return float(energy), torch.tensor(atoms.get_forces(), dtype=torch.float32)


def record(run: FineTuning, network, checks: Sequence[tuple]) -> None:
    """Append weights and test errors of this moment to the run."""
    network.eval()
    energy, force = [], []
    for graph, target, forces in checks:
        found = network([graph], task="ef")
        energy.append(found["e"].item() - target)
        force.append((found["f"][0].detach() - forces).numpy())
    errors = error_summary(energy, force)
    run.energy_mae.append(errors["energy_mae_meV_per_atom"])
    run.force_mae.append(errors["force_mae_meV_per_angstrom"])
    run.states.append({k: v.detach().clone() for k, v in network.state_dict().items()})


def at_epoch(run: FineTuning, network, epoch: int) -> ChgnetModel:
    """The model of one epoch, ready for extraction; `network` gives the architecture."""
    arguments = {**network.model_args, "composition_model": None}
    rebuilt = quietly(type(network), **arguments)
    rebuilt.load_state_dict(run.states[epoch])
    return ChgnetModel(rebuilt, f"{run.protocol}, epoch {epoch}")
