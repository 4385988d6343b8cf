"""Controlled training: a MACE from a declarative recipe, by mace-torch's own trainer."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ase import Atoms

from .models import mace
from .models.base import TrainableModel
from .resources import InputError, made, sha256, temporary_beside, verified
from .schemas import Recipe, fault
from .splits import split_structures
from .structures import composition, labels_fingerprint, list_datasets, load_structures

LARGEST = 1_000_000  # bytes of a recipe


def read_recipe(recipe_file: str | Path) -> dict:
    """A recipe with everything that it inherits, as `schemas.Recipe` wants it.

    ``extends`` names another recipe of the same folder, of which this one changes what it states,
    so that a file of a controlled experiment shows the one thing that is different.

    Raises
    ------
    InputError
        A file cannot be read, or something in it is missing, unknown or out of bounds.

    Examples
    --------
    >>> from umlip_latents.resources import DATA
    >>> recipe = read_recipe(DATA / "recipes" / "mini-mace-base-s1.json")
    >>> recipe["mace"]["seed"], recipe["mace"]["r_max"]
    (1, 4.5)
    """
    recipe, path, seen = {}, Path(recipe_file), []
    while path:
        if path in seen:
            raise InputError(f"{path}: extends itself, by way of {seen[-1].name}.")
        seen.append(path)
        part = stated(path)
        base = part.pop("extends", None)
        mace = part.get("mace", {}) | recipe.get("mace", {})
        recipe = part | recipe | {"mace": mace}
        path = base and path.with_name(base)
    if wrong := fault(Recipe, recipe):
        raise InputError(f"{recipe_file}: is not a usable recipe: {wrong}.")
    return recipe


def stated(path: Path) -> dict:
    """What one file of a recipe states, which may be a part of it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key that is there twice")
        return found

    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError(f"no file of up to {LARGEST:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a usable recipe ({error}).") from None
    if wrong := fault(Recipe, found, whole=False):
        raise InputError(f"{path}: is not a usable recipe: {wrong}.")
    return found


def recipe_parts(recipe: dict) -> dict[str, list[Atoms]]:
    """The training, validation and held-out structures of a recipe.

    The held-out part depends on ``datasets``, ``held_out``, ``validation`` and ``split_seed``
    alone: recipes that share them share it, whatever they take for training. ``training`` maps
    data sets to how many structures of the remainder to take, ``max_atoms`` bounds their size,
    ``only`` names an element that each of them contains, ``without`` elements that none does.
    Each structure carries its data set as ``info["dataset"]``.

    Raises
    ------
    InputError
        Too few structures, one without labels, or none that has the info entry ``group``.

    Examples
    --------
    >>> sizes = {"held_out": 50, "validation": 20, "split_seed": 0}
    >>> parts = recipe_parts({"datasets": ["embedded"], "group": "name", **sizes})
    >>> {name: len(part) for name, part in parts.items()}
    {'training': 835, 'validation': 18, 'held out': 50}
    """
    structures = []
    for name in recipe["datasets"]:
        for atoms in load_structures(name):
            atoms.info["dataset"] = name
            structures.append(atoms)
    if not any(recipe["group"] in atoms.info for atoms in structures):
        raise InputError(f"{recipe['name']}: no structure has the info entry {recipe['group']!r}.")
    sizes = (recipe["held_out"], recipe["validation"])
    held_out, validation, training = split_structures(structures, sizes, recipe["split_seed"])
    leaking = same_group(structures, held_out, recipe["group"])
    validation, training = (np.setdiff1d(part, leaking) for part in (validation, training))
    if "training" in recipe:
        order = np.random.default_rng(recipe["split_seed"]).permutation(training)
        order = [i for i in order if suits(structures[i], recipe)]
        training = []
        for name, count in recipe["training"].items():
            found = [i for i in order if structures[i].info["dataset"] == name][:count]
            if len(found) < count:
                few = f"{name} has {len(found)} structures to train on, not {count}"
                raise InputError(f"{recipe['name']}: {few}.")
            training += found
    parts = {"training": sorted(training), "validation": validation, "held out": held_out}
    if empty := [name for name, part in parts.items() if not len(part)]:
        raise InputError(f"{recipe['name']}: leaves no structure for the part {empty[0]}.")
    return {name: [structures[i] for i in part] for name, part in parts.items()}


def suits(atoms: Atoms, recipe: dict) -> bool:
    """Whether the recipe lets a structure be trained on."""
    elements = set(atoms.symbols)
    small = len(atoms) <= recipe.get("max_atoms", np.inf)
    wanted = "only" not in recipe or recipe["only"] in elements
    return small and wanted and elements.isdisjoint(recipe.get("without", ()))


def train_recipe(recipe_file: str | Path, output: str | Path) -> dict:
    """Train the MACE of a recipe with mace-torch's own code and write safetensors and its card.

    The weights are those of the last epoch (their moving average if the recipe asks for one),
    never the best so far, so that models of one experiment have all seen the same. They follow
    from recipe and data alone, bit by bit on one machine with one thread.

    The trainer works in a private temporary folder: what lies beside the output is never read. A
    training that was interrupted starts again from nothing, as mace-torch would go on with its
    batches in another order; one that is finished is not repeated.

    Parameters
    ----------
    recipe_file
        JSON, see `read_recipe` and `recipe_parts`; under ``mace`` those arguments of mace-torch's
        ``run_train`` that `schemas.Mace` lists.
    output
        The ``.safetensors`` to write; the JSON card goes beside it.

    Returns
    -------
    dict
        The card: recipe, SHA-256 of the data, curve, held-out errors.

    Raises
    ------
    InputError
        What is wrong with recipe, data or output, before anything is trained; among it that
        there is a file already that this training has not made.

    Examples
    --------
    >>> from umlip_latents.resources import DATA
    >>> recipe = DATA / "recipes" / "mini-mace-base-s1.json"
    >>> train_recipe(recipe, "base-s1.safetensors")["trained_elements"]  # doctest: +SKIP
    ['Ag', ...]
    """
    recipe, output = read_recipe(recipe_file), Path(output)
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: the file to write has to end in .safetensors.")
    temporary_beside(made(output.parent) / output.name).unlink()
    parts = recipe_parts(recipe)
    for name, part in parts.items():
        labels_fingerprint(part, f"{recipe['name']}: {name}")
    data = data_sha256(recipe["datasets"])
    if card := finished(output, recipe, data):
        return card
    if (size := recipe["mace"].get("batch_size", 10)) > (few := len(parts["training"])):
        # mace-torch drops a batch that is not full
        raise InputError(f"{recipe['name']}: batch_size {size} is more than {few} structures.")
    everything = {int(z) for part in parts.values() for atoms in part for z in atoms.numbers}
    settings = recipe["mace"] | {
        "atomic_numbers": str(sorted(everything)),  # those not trained on, too
        "error_table": "PerAtomMAE",
        "plot": False,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    learned = {"train": parts["training"], "valid": parts["validation"]}
    with TemporaryDirectory(prefix="umlip-latents-") as scratch:
        model = mace.MaceModel(mace.trained(Path(scratch), learned, settings), recipe["name"])
        curve = validation_curve(Path(scratch) / "results")
    errors = partial(model_errors, model)
    baseline = partial(composition_baseline, parts["training"])
    card = {
        "name": recipe["name"],
        "recipe": recipe,
        "data_sha256": data,
        "n_structures": {name: len(part) for name, part in parts.items()},
        "trained_elements": sorted({s for atoms in parts["training"] for s in atoms.symbols}),
        "weights": "those of the last epoch",
        "validation_curve": curve,
        "held_out_errors": by_dataset(parts["held out"], errors),
        "linear_baseline_errors": by_dataset(parts["held out"], baseline),
    }
    model.save(output, **card)
    return finished(output, recipe, data)


def data_sha256(names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of data sets by name or path, no two of which may be the same."""
    known = list_datasets()
    sums = {name: known[name]["sha256"] if name in known else sha256(name) for name in names}
    if len(set(sums.values())) < len(sums):
        raise InputError(f"{', '.join(names)}: two of these data sets are the same.")
    return sums


def finished(output: Path, recipe: dict, data: dict[str, str]) -> dict | None:
    """The card of this very training if it is finished, None if nothing is there.

    The card is written before the weights, so that these are never without it.

    Raises
    ------
    InputError
        Another training's files, or weights that are not those of the card.
    """
    file, known = output.with_suffix(".json"), None
    if not (output.exists() or file.exists()):
        return None
    with suppress(OSError, ValueError, TypeError, KeyError):  # whatever else is there
        card = json.loads(file.read_text(encoding="utf-8"))
        known, digest = (card["recipe"], card["data_sha256"]), str(card["sha256"])
    if known != (recipe, data):
        raise InputError(
            f"{output}: this file or {file.name} is there already, and not from the recipe "
            f"{recipe['name']} with the same data; delete both or write elsewhere."
        )
    return card if output.exists() and verified(output, digest, f"{file.name} has") else None


def validation_curve(results: Path) -> list[dict]:
    """What mace-torch wrote about the validation structures after every epoch."""
    lines = [li for f in sorted(results.glob("*_train.txt")) for li in f.read_text().splitlines()]
    return [
        {
            "epoch": e["epoch"],
            "loss": e["loss"],
            "energy_mae_meV_per_atom": 1000 * e["mae_e_per_atom"],
            "force_mae_meV_per_angstrom": 1000 * e["mae_f"],
        }
        for e in map(json.loads, lines)
        if e["mode"] == "eval"
    ]


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


def prediction_errors(
    model: TrainableModel, structures: Sequence[Atoms]
) -> tuple[list[float], list[np.ndarray]]:
    """Of each structure the error of its energy in eV/atom, and (n_atoms, 3) in eV/angstrom."""
    found = [model.energy_and_forces(atoms) for atoms in structures]
    labels = [(a.get_potential_energy() / len(a), a.get_forces()) for a in structures]
    pairs = zip(found, labels, strict=True)
    return tuple(zip(*((e - e0, f - f0) for (e, f), (e0, f0) in pairs), strict=True))


def model_errors(model: TrainableModel, structures: Sequence[Atoms]) -> dict[str, float]:
    """Errors of a model against the labels, as `error_summary`."""
    return error_summary(*prediction_errors(model, structures))


def composition_baseline(training: Sequence[Atoms], test: Sequence[Atoms]) -> dict[str, float]:
    """Errors of a least-squares energy per element and zero forces: what no geometry can give."""
    (known, wanted), (x, y) = zip(*(per_atom(part) for part in (training, test)), strict=True)
    per_element = np.linalg.lstsq(known, x, rcond=None)[0]
    return error_summary(wanted @ per_element - y, [a.get_forces() for a in test])


def per_atom(structures: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Share of each element, (n_structures, 119), and energies in eV/atom."""
    energies = np.array([a.get_potential_energy() / len(a) for a in structures])
    return composition(structures), energies


def error_summary(energy: Sequence[float], force: Sequence[np.ndarray]) -> dict[str, float]:
    """Errors in meV from per-atom energy errors and force errors in eV."""
    forces = np.concatenate(force)
    return {
        "energy_mae_meV_per_atom": 1000 * float(np.mean(np.abs(energy))),
        "force_mae_meV_per_angstrom": 1000 * float(np.mean(np.abs(forces))),
        "force_rmse_meV_per_angstrom": 1000 * float(np.sqrt(np.mean(np.square(forces)))),
    }
