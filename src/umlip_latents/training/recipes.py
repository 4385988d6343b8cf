"""Recipes of a controlled training, and the structures that they name."""

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat, ValidationError

from ..resources import InputError
from ..structures.read import load_structures
from ..structures.splits import split_structures

Element = Literal[tuple(chemical_symbols[1:])]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Few = Annotated[int, Field(ge=1, le=6)]
Degree = Annotated[int, Field(ge=0, le=6)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class MaceArguments(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
    """Arguments of mace-torch's ``run_train`` that a recipe may set, with mace-torch's defaults.

    None of them names a file, a folder, a device or a foundation model: the trainer would unpickle
    what it finds there.
    """

    seed: Seed
    model: Literal["ScaleShiftMACE"]
    E0s: Literal["average"]
    max_num_epochs: Count
    num_channels: Count | None = None
    max_L: Degree | None = None
    max_ell: Degree = 3
    correlation: Few = 3
    num_interactions: Few = 2
    r_max: Annotated[float, Field(gt=0, le=20)] = 5.0
    MLP_irreps: Annotated[str, Field(pattern=r"^[1-9]\d{0,3}x0e$")] = "16x0e"
    use_agnostic_product: bool = False
    scaling: Literal["std_scaling", "rms_forces_scaling", "no_scaling"] = "rms_forces_scaling"
    loss: Literal["weighted", "stress", "huber", "universal"] = "weighted"
    huber_delta: PositiveFloat = 0.01
    energy_weight: NonNegativeFloat = 1.0
    forces_weight: NonNegativeFloat = 100.0
    stress_weight: NonNegativeFloat = 1.0
    compute_stress: bool = False
    optimizer: Literal["adam", "adamw", "schedulefree"] = "adam"
    amsgrad: bool = True
    lr: PositiveFloat = 0.01
    weight_decay: NonNegativeFloat = 5e-7
    scheduler: Literal["ExponentialLR", "ReduceLROnPlateau"] = "ReduceLROnPlateau"
    lr_scheduler_gamma: Fraction = 0.9993
    ema: bool = False
    ema_decay: Fraction = 0.99
    clip_grad: PositiveFloat = 10.0
    batch_size: Count = 10
    valid_batch_size: Count = 10
    default_dtype: Literal["float32", "float64"] = "float64"


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
    mace: MaceArguments


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
    >>> recipe.mace.seed, recipe.mace.r_max
    (1, 4.5)
    """
    path = Path(recipe_file)
    try:
        return Recipe.model_validate(inherit(path))
    except ValidationError as error:
        last = error.errors()[-1]  # keys that are misspelt come after those that are missing
        key, why = ".".join(map(str, last["loc"])), shorten(last["msg"], 100)
        given = shorten(ascii(last["input"]), 60)
        raise InputError(f"{path}: {key}: {why} (given: {given}).") from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
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
