"""Controlled training: recipes, the structures that they name, and the MACE that they make."""

import json
from argparse import ArgumentError
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ..models.base import TrainableAdapter, one_thread
from ..models.mace import MaceModel
from ..resources import InputError, check_writable, ensure_dir, torch_device
from ..structures.describe import labels_fingerprint
from ..structures.read import list_datasets, load_structures
from ..structures.splits import split_structures
from .mace_trainer import run_trainer, trainer_settings
from .plan import prediction_errors

# Arguments of mace-torch that a recipe may set. None of them names a file, a folder,
# a device or a foundation model: the trainer would unpickle what it finds there.
MACE_ARGUMENTS = """
model num_channels max_L max_ell correlation num_interactions r_max MLP_irreps use_agnostic_product
E0s scaling loss huber_delta energy_weight forces_weight stress_weight compute_stress default_dtype
optimizer amsgrad lr weight_decay scheduler lr_scheduler_gamma ema ema_decay clip_grad
seed max_num_epochs batch_size valid_batch_size
"""
FIXED = {"model": "ScaleShiftMACE", "E0s": "average"}  # other energies would name a file
Natural, Positive = Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]
Element = Literal[tuple(chemical_symbols[1:])]
MaceArgument = Literal[tuple(MACE_ARGUMENTS.split())]
Value = bool | str | Natural | Annotated[float, Field(ge=0)]


def check_mace_arguments(arguments: dict[str, Value]) -> dict[str, Value]:
    """The same arguments; raises `ValueError` if mace-torch or this package has no use for them."""
    if not FIXED.items() <= arguments.items():
        raise ValueError(f"its model and E0s must be {FIXED}")
    trainer_settings(arguments)
    return arguments


class Recipe(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
    """A controlled training: its structures, how they are divided, and the settings of a MACE.

    Attributes
    ----------
    name
        Of the model.
    description, aspect, level
        What the training is for; not used by it.
    datasets
        Labelled structures: names, files, folders or patterns, as in `load_structures`.
    energy_key
        As in `load_structures`, where the files call their labels otherwise.
    group
        Info entry that names the trajectory or material of a structure.
    held_out, validation, split_seed
        Number of structures that are not trained on, and the seed that draws them.
    max_atoms, only, without
        Bounds of what is trained on: the size, an element that each structure contains, elements
        that none does.
    training
        How many structures of each data set to train on; without it all that are left.
    mace
        Arguments of mace-torch's trainer.
    """

    name: str
    description: str = ""
    aspect: str = ""
    level: str = ""
    datasets: list[str]
    energy_key: str | None = None
    group: str
    held_out: Positive
    validation: Positive
    split_seed: Natural
    max_atoms: Positive = 1_000_000
    training: dict[str, Positive] = {}
    only: Element | None = None
    without: list[Element] = []
    mace: Annotated[dict[MaceArgument, Value], AfterValidator(check_mace_arguments)]


def read_recipe(recipe_file: str | Path) -> Recipe:
    """A recipe from a JSON file, with everything that it inherits.

    Its key ``extends`` names another recipe of the same folder, of which this one changes what it
    states, so that a file of a controlled experiment shows the one thing that is different.

    Raises
    ------
    InputError
        A file cannot be read, or something in it is missing, unknown or out of bounds.

    Examples
    --------
    >>> from umlip_latents.resources import DATA
    >>> recipe = read_recipe(DATA / "recipes" / "mini-mace-base-s1.json")
    >>> recipe.mace["seed"], recipe.mace["r_max"]
    (1, 4.5)
    """
    path = Path(recipe_file)
    try:
        return Recipe.model_validate(inherit(path))
    except ValidationError as error:
        last = error.errors()[-1]  # keys that are misspelt come after those that are missing
        key, given = ".".join(map(str, last["loc"][:2])), shorten(ascii(last["input"]), 60)
        raise InputError(f"{path}: {key}: {shorten(last['msg'], 100)} (given: {given}).") from None
    except (ArgumentError, AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a usable recipe ({error}).") from None


def inherit(path: Path) -> dict:
    """The content of a recipe, and what it leaves to those that it extends."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not (name := content.pop("extends", None)):
        return content
    base = inherit(path.with_name(name))
    return base | content | {"mace": base.get("mace", {}) | content.get("mace", {})}


def recipe_parts(recipe: Recipe) -> dict[str, list[Atoms]]:
    """The training, validation and held-out structures of a recipe.

    The held-out part depends on ``datasets``, ``held_out``, ``validation`` and ``split_seed``
    alone: recipes that share them share it, whatever they take for training. No group that it has
    a structure of is trained on. Each structure carries its data set as ``info["dataset"]``.

    Raises
    ------
    InputError
        Too few structures, or none that has the info entry ``group``.

    Examples
    --------
    >>> from umlip_latents.resources import DATA
    >>> recipe = read_recipe(DATA / "recipes" / "mini-mace-mptrj.json")
    >>> changes = {"datasets": ["embedded"], "group": "name", "held_out": 50, "validation": 20}
    >>> parts = recipe_parts(recipe.model_copy(update=changes))
    >>> {name: len(part) for name, part in parts.items()}
    {'training': 835, 'validation': 18, 'held out': 50}
    """
    structures = []
    for name in recipe.datasets:
        for atoms in load_structures(name, energy_key=recipe.energy_key):
            atoms.info["dataset"] = name
            structures.append(atoms)
    groups = np.array([str(atoms.info.get(recipe.group, "")) for atoms in structures])
    if not any(groups):
        raise InputError(f"{recipe.name}: no structure has the info entry {recipe.group!r}.")
    sizes = (recipe.held_out, recipe.validation)
    held_out, validation, rest = split_structures(structures, sizes, recipe.split_seed)
    leaking = np.isin(groups, groups[held_out]) & (groups != "")
    fitting = defaultdict(list)
    for i in np.random.default_rng(recipe.split_seed).permutation(rest[~leaking[rest]]):
        atoms, elements = structures[i], {*structures[i].symbols}
        allowed = len(atoms) <= recipe.max_atoms and elements.isdisjoint(recipe.without)
        if allowed and recipe.only in (None, *elements):
            fitting[atoms.info["dataset"]].append(i)
    counts = recipe.training or {name: len(found) for name, found in fitting.items()}
    if few := [name for name, count in counts.items() if len(fitting[name]) < count]:
        raise InputError(f"{recipe.name}: too few structures to train on in {', '.join(few)}.")
    training = sorted(i for name, count in counts.items() for i in fitting[name][:count])
    validation = validation[~leaking[validation]]
    parts = {"training": training, "validation": validation, "held out": held_out}
    if empty := [name for name, part in parts.items() if not len(part)]:
        raise InputError(f"{recipe.name}: leaves no structure for the part {empty[0]}.")
    return {name: [structures[i] for i in part] for name, part in parts.items()}


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
    prints = [labels_fingerprint(part, f"{recipe.name}: {name}") for name, part in parts.items()]
    sums = {n: list_datasets().get(n, {}).get("sha256", prints) for n in recipe.datasets}
    origin = {"recipe": recipe.model_dump(exclude_unset=True), "data_sha256": sums}
    card, known = output.with_suffix(".json"), {}
    with suppress(OSError, ValueError, TypeError):  # there is none, or something else
        known = dict(json.loads(card.read_text(encoding="utf-8")))
    ours = origin.items() <= known.items()
    if ours and output.exists():  # it comes after its card
        return known
    if not ours and (output.exists() or card.exists()):
        what = f"this file or {card.name} is there already, and not from the recipe {recipe.name}"
        raise InputError(f"{output}: {what} with the same data; delete both or write elsewhere.")
    everywhere = np.concatenate([atoms.numbers for part in parts.values() for atoms in part])
    arguments = recipe.mace | {
        "atomic_numbers": str(np.unique(everywhere).tolist()),  # those not trained on, too
        "device": str(torch_device(device)),
    }
    learned = {"train": parts["training"], "valid": parts["validation"]}
    with TemporaryDirectory(prefix="umlip-latents-") as folder:
        model = MaceModel(run_trainer(Path(folder), learned, arguments), recipe.name)
    errors = errors_by_dataset(model, parts["held out"])
    if not np.isfinite(pd.DataFrame(errors)).all(axis=None):
        raise InputError(f"{recipe.name}: the training diverges; try a smaller lr.")
    model.save(
        output,
        name=recipe.name,
        **origin,
        n_structures={name: len(part) for name, part in parts.items()},
        trained_elements=sorted({s for atoms in parts["training"] for s in atoms.symbols}),
        held_out_errors=errors,
    )
    return json.loads(card.read_text(encoding="utf-8"))


def errors_by_dataset(model: TrainableAdapter, structures: Sequence[Atoms]) -> dict[str, dict]:
    """Mean errors on the structures of each data set, which ``info["dataset"]`` names, in meV.

    Returns
    -------
    dict
        By data set ``energy_mae_meV_per_atom``, ``force_mae_meV_per_angstrom`` and
        ``force_rmse_meV_per_angstrom``, the latter two over all components of all atoms.
    """
    names, summary = [atoms.info["dataset"] for atoms in structures], {}
    for name, part in prediction_errors(model, structures).groupby(np.array(names), sort=False):
        energy, force = 1000 * part["energy"].abs(), 1000 * np.concatenate([*part["force"]])
        summary[name] = {
            "energy_mae_meV_per_atom": float(energy.mean()),
            "force_mae_meV_per_angstrom": float(np.abs(force).mean()),
            "force_rmse_meV_per_angstrom": float(np.sqrt(np.square(force).mean())),
        }
    return summary
