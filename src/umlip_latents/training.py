"""Controlled training: a MACE from a declarative recipe, by mace-torch's own trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import write

from .resources import InputError, sha256
from .structures import load_structures, split_structures


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

    flags = {"amsgrad", "ema", "restart_latest", "save_all_checkpoints", "swa"}
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
