"""Controlled training: a MACE from a declarative recipe, by mace-torch's own trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import write

from .resources import InputError, sha256
from .splits import split_structures
from .structures import load_structures


def read_recipe(recipe_file: str | Path) -> dict:
    """A recipe with everything that it inherits.

    ``extends`` names another recipe of the same folder, of which this one changes what it states,
    so that a file of a controlled experiment shows the one thing that is different.

    Raises
    ------
    InputError
        The file cannot be read or lacks something.
    """
    path = Path(recipe_file)
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        if "extends" in recipe:
            base = read_recipe(path.parent / recipe.pop("extends"))
            recipe["mace"] = base["mace"] | recipe.get("mace", {})
            recipe = base | recipe
        needed = ("name", "datasets", "group", "held_out", "validation", "split_seed", "mace")
        missing = [key for key in needed if key not in recipe]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is not a usable recipe ({error!r}).") from None
    if missing:
        raise InputError(f"{path}: is not a usable recipe (no {', '.join(missing)}).")
    return recipe


def recipe_parts(recipe: dict) -> dict[str, list[Atoms]]:
    """The training, validation and held-out structures of a recipe.

    The held-out part depends on ``datasets``, ``held_out``, ``validation`` and ``split_seed``
    alone: recipes that share them share it, whatever they take for training. ``training`` maps
    data sets to how many structures of the remainder to take, ``max_atoms`` bounds their size,
    ``only`` names an element that each of them contains, ``without`` elements that none does.
    Each structure carries its data set as ``info["dataset"]``.
    """
    structures = []
    for name in recipe["datasets"]:
        for atoms in load_structures(name):
            atoms.info["dataset"] = name
            structures.append(atoms)
    sizes = (recipe["held_out"], recipe["validation"])
    held_out, validation, training = split_structures(structures, sizes, recipe["split_seed"])
    leaking = same_group(structures, held_out, recipe["group"])
    validation, training = (np.setdiff1d(part, leaking) for part in (validation, training))
    if "training" in recipe:
        order = np.random.default_rng(recipe["split_seed"]).permutation(training)
        if "only" in recipe:
            order = [i for i in order if recipe["only"] in structures[i].symbols]
        if "without" in recipe:
            order = [i for i in order if not set(recipe["without"]) & set(structures[i].symbols)]
        if "max_atoms" in recipe:
            order = [i for i in order if len(structures[i]) <= recipe["max_atoms"]]
        chosen = []
        for name, count in recipe["training"].items():
            found = [i for i in order if structures[i].info["dataset"] == name][:count]
            if len(found) < count:
                raise InputError(
                    f"{recipe['name']}: {name} has {len(found)} structures to train on, "
                    f"not {count}."
                )
            chosen += found
        training = np.sort(chosen)
    parts = {"training": training, "validation": validation, "held out": held_out}
    return {name: [structures[i] for i in part] for name, part in parts.items()}


def train_mace(recipe_file: str | Path, output: str | Path) -> dict:
    """Train the MACE of a recipe with mace-torch's own code and write safetensors and its card.

    The weights are those of the last epoch (their moving average if the recipe asks for one),
    never the best so far, so that models of one experiment have all seen the same.

    Parameters
    ----------
    recipe_file
        JSON, see `read_recipe` and `recipe_parts`; under ``mace`` the arguments of mace-torch's
        ``run_train`` by name.
    output
        The ``.safetensors`` to write; the JSON card goes beside it. Scratch files stay in a folder
        of the same name, from which an interrupted training goes on.

    Returns
    -------
    dict
        The card: recipe, SHA-256 of the data, curve, held-out errors.
    """
    from .models import mace as mace_family  # mace first, then its trainer

    recipe, output = read_recipe(recipe_file), Path(output)
    parts = recipe_parts(recipe)
    scratch = output.with_suffix("")
    scratch.mkdir(parents=True, exist_ok=True)
    for name in ("training", "validation"):
        write(scratch / f"{name}.xyz", [labelled(atoms) for atoms in parts[name]])
    everything = {int(z) for part in parts.values() for atoms in part for z in atoms.numbers}
    run_mace(
        recipe["mace"]
        | {
            "name": recipe["name"],
            "work_dir": str(scratch),
            "train_file": str(scratch / "training.xyz"),
            "valid_file": str(scratch / "validation.xyz"),
            "atomic_numbers": str(sorted(everything)),  # those not trained on, too
            "error_table": "PerAtomMAE",
            "save_all_checkpoints": True,
            "restart_latest": True,
            "plot": False,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
    )
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
        "n_structures": {name: len(part) for name, part in parts.items()},
        "trained_elements": sorted({s for atoms in parts["training"] for s in atoms.symbols}),
        "weights": "those of the last epoch",
        "validation_curve": [
            {
                "epoch": e["epoch"],
                "loss": e["loss"],
                "energy_mae_meV_per_atom": 1000 * e["mae_e_per_atom"],
                "force_mae_meV_per_angstrom": 1000 * e["mae_f"],
            }
            for e in curve
        ],
        "held_out_errors": by_dataset(parts["held out"], partial(mace_errors, network)),
        "linear_baseline_errors": by_dataset(
            parts["held out"], partial(composition_baseline, parts["training"])
        ),
    }
    mace_family.save_network(network, output, card)
    return card


def by_dataset(
    structures: Sequence[Atoms], errors: Callable[[list[Atoms]], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Errors on the structures of each data set."""
    names = dict.fromkeys(atoms.info["dataset"] for atoms in structures)
    return {n: errors([a for a in structures if a.info["dataset"] == n]) for n in names}


def same_group(structures: Sequence[Atoms], chosen: np.ndarray, key: str) -> list[int]:
    """Indices of the structures that share the info entry `key` with a chosen one."""
    groups = {structures[i].info[key] for i in chosen if key in structures[i].info}
    return [i for i, atoms in enumerate(structures) if atoms.info.get(key) in groups]


def run_mace(arguments: dict) -> None:
    """Call mace-torch's trainer with these arguments."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    flags = {"amsgrad", "ema", "restart_latest", "save_all_checkpoints"}
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
    for start in range(0, len(structures), 8):
        part = structures[start : start + 8]
        batch = torch_geometric.Batch.from_data_list([model.prepare(a) for a in part])
        found = network(batch.to_dict(), compute_force=True)
        ends = np.cumsum([len(a) for a in part])
        forces = np.split(found["forces"].detach().numpy(), ends[:-1])
        for atoms, e, f in zip(part, found["energy"].tolist(), forces, strict=True):
            energy.append((e - atoms.get_potential_energy()) / len(atoms))
            force.append(f - atoms.get_forces())
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
