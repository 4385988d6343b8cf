"""Recipes of a controlled training, and the structures that they name."""

import json
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ..resources import InputError
from ..structures.read import load_structures
from ..structures.splits import split_structures
from .mace_trainer import trainer_settings

# Arguments of mace-torch that a recipe may set. None of them names a file, a folder,
# a device or a foundation model: the trainer would unpickle what it finds there.
MACE_ARGUMENTS = """
model num_channels max_L max_ell correlation num_interactions r_max MLP_irreps use_agnostic_product
E0s scaling loss huber_delta energy_weight forces_weight stress_weight compute_stress default_dtype
optimizer amsgrad lr weight_decay scheduler lr_scheduler_gamma ema ema_decay clip_grad
seed max_num_epochs batch_size valid_batch_size
"""
FIXED = {"model": "ScaleShiftMACE", "E0s": "average"}  # other energies would name a file
Element = Literal[tuple(chemical_symbols[1:])]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
MaceArgument = Literal[tuple(MACE_ARGUMENTS.split())]
Value = bool | str | Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0)]


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
        Names or files of labelled structures.
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
    datasets: Annotated[list[str], Field(min_length=1)]
    group: str
    held_out: Count
    validation: Count
    split_seed: Seed
    max_atoms: Count = 1_000_000
    training: Annotated[dict[str, Count], Field(min_length=1)] | None = None
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
        key, why = ".".join(map(str, last["loc"][:2])), shorten(last["msg"], 100)
        given = shorten(ascii(last["input"]), 60)
        raise InputError(f"{path}: {key}: {why} (given: {given}).") from None
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
        for atoms in load_structures(name):
            atoms.info["dataset"] = name
            structures.append(atoms)
    groups = np.array([str(atoms.info.get(recipe.group, "")) for atoms in structures])
    if not any(groups):
        raise InputError(f"{recipe.name}: no structure has the info entry {recipe.group!r}.")
    sizes = (recipe.held_out, recipe.validation)
    held_out, validation, training = split_structures(structures, sizes, recipe.split_seed)
    leaking = np.isin(groups, groups[held_out]) & (groups != "")
    validation, training = validation[~leaking[validation]], training[~leaking[training]]
    if recipe.training:
        training = draw_training(recipe, structures, training)
    parts = {"training": training, "validation": validation, "held out": held_out}
    if empty := [name for name, part in parts.items() if not len(part)]:
        raise InputError(f"{recipe.name}: leaves no structure for the part {empty[0]}.")
    return {name: [structures[i] for i in part] for name, part in parts.items()}


def draw_training(recipe: Recipe, structures: Sequence[Atoms], indices: np.ndarray) -> list[int]:
    """Sorted indices of the structures that a recipe trains on, drawn among `indices`."""
    chosen, missing = [], dict(recipe.training)
    for i in np.random.default_rng(recipe.split_seed).permutation(indices):
        atoms, elements = structures[i], {*structures[i].symbols}
        fits = len(atoms) <= recipe.max_atoms and elements.isdisjoint(recipe.without)
        name = atoms.info["dataset"]
        if fits and recipe.only in (None, *elements) and missing.get(name):
            chosen.append(i)
            missing[name] -= 1
    if few := [name for name, count in missing.items() if count]:
        raise InputError(f"{recipe.name}: too few structures to train on in {', '.join(few)}.")
    return sorted(chosen)
