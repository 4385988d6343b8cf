"""Controlled training: the MACE of a recipe, by mace-torch's own trainer."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from ase import Atoms

from ..models.base import one_thread
from ..models.mace import MaceModel
from ..resources import InputError, check_writable, ensure_dir, sha256, torch_device
from ..structures.describe import labels_fingerprint
from ..structures.read import list_datasets
from .mace_trainer import run_trainer
from .recipes import read_recipe, recipe_parts


@one_thread()  # beside other work PyTorch's threads mostly wait for each other
def train_recipe(recipe_file: str | Path, output: str | Path, *, device: str = "auto") -> dict:
    """Train the MACE of a recipe with mace-torch's own code and write safetensors and its card.

    The weights are those of the last epoch (their moving average if the recipe asks for one),
    never the best so far, so that models of one experiment have all seen the same.

    The trainer works in a private temporary folder: what lies beside the output is never read. A
    training that was interrupted is repeated from nothing, one that is finished is not repeated.

    Parameters
    ----------
    recipe_file
        JSON, see `read_recipe` and `recipe_parts`.
    output
        The ``.safetensors`` to write; the JSON card goes beside it.
    device
        Of PyTorch; ``"auto"`` is CUDA if there is one, else the processor.

    Returns
    -------
    dict
        The card: recipe, SHA-256 of the data, held-out errors.

    Raises
    ------
    InputError
        What is wrong with recipe, data or output, before anything is trained; among it that
        there is a file already that this training has not made. Or the training diverges.

    Examples
    --------
    >>> from umlip_latents.resources import DATA
    >>> recipe = DATA / "recipes" / "mini-mace-base-s1.json"
    >>> train_recipe(recipe, "base-s1.safetensors")["trained_elements"]  # doctest: +SKIP
    ['Ag', ...]
    """
    recipe, output = read_recipe(recipe_file), Path(output)
    check_writable(ensure_dir(output.parent) / output.name)
    parts = recipe_parts(recipe)
    for name, part in parts.items():
        labels_fingerprint(part, f"{recipe.name}: {name}")  # refuses those without labels
    known, names = list_datasets(), recipe.datasets
    sums = {name: known[name]["sha256"] if name in known else sha256(name) for name in names}
    origin = {"recipe": recipe.model_dump(exclude_unset=True), "data_sha256": sums}
    if card := finished_card(output, origin):
        return card
    everywhere = np.concatenate([atoms.numbers for part in parts.values() for atoms in part])
    arguments = recipe.mace | {
        "atomic_numbers": str(np.unique(everywhere).tolist()),  # those not trained on, too
        "device": str(torch_device(device)),
    }
    learned = {"train": parts["training"], "valid": parts["validation"]}
    with TemporaryDirectory(prefix="umlip-latents-") as folder:
        model = MaceModel(run_trainer(Path(folder), learned, arguments), recipe.name)
    errors = errors_by_dataset(model.energy_and_forces, parts["held out"])
    if not np.isfinite([[*values.values()] for values in errors.values()]).all():
        raise InputError(f"{recipe.name}: the training diverges; try a smaller lr.")
    model.save(
        output,
        name=recipe.name,
        **origin,
        n_structures={name: len(part) for name, part in parts.items()},
        trained_elements=sorted({s for atoms in parts["training"] for s in atoms.symbols}),
        held_out_errors=errors,
    )
    return finished_card(output, origin)


def finished_card(output: Path, origin: dict) -> dict | None:
    """The card of a training if it is finished, None if it is not.

    The card is written before the weights, so that these are never without it.

    Raises
    ------
    InputError
        Files of another `origin`.
    """
    card, file = {}, output.with_suffix(".json")
    if not (output.exists() or file.exists()):
        return None
    with suppress(OSError, ValueError, TypeError):  # whatever else is there
        card = dict(json.loads(file.read_text(encoding="utf-8")))
    if not origin.items() <= card.items():
        raise InputError(
            f"{output}: this file or {file.name} is there already, and not from the recipe "
            f"{origin['recipe']['name']} with the same data; delete both or write elsewhere."
        )
    return card if output.exists() else None


def prediction_error(predict: Callable, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Error of the energy in eV/atom and of the forces, (n_atoms, 3), in eV/angstrom."""
    energy, forces = predict(atoms)
    return energy - atoms.get_potential_energy() / len(atoms), forces - atoms.get_forces()


def errors_by_dataset(predict: Callable, structures: Sequence[Atoms]) -> dict[str, dict]:
    """Mean errors on the structures of each data set, which ``info["dataset"]`` names, in meV.

    Parameters
    ----------
    predict
        Gives energy (eV/atom) and forces (n_atoms, 3) (eV/angstrom) of a structure, such as
        ``model.energy_and_forces``.
    structures
        Labelled.

    Returns
    -------
    dict
        By data set ``energy_mae_meV_per_atom``, ``force_mae_meV_per_angstrom`` and
        ``force_rmse_meV_per_angstrom``, the latter two over all components of all atoms.
    """
    names, summary = np.array([atoms.info["dataset"] for atoms in structures]), {}
    errors = pd.DataFrame([prediction_error(predict, atoms) for atoms in structures])
    for name, part in errors.groupby(names, sort=False):
        energy, force = 1000 * part[0].abs(), 1000 * np.concatenate([*part[1]])
        summary[name] = {
            "energy_mae_meV_per_atom": float(energy.mean()),
            "force_mae_meV_per_angstrom": float(np.abs(force).mean()),
            "force_rmse_meV_per_angstrom": float(np.sqrt(np.square(force).mean())),
        }
    return summary
