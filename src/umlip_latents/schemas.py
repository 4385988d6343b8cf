"""What a recipe and the registries may hold: keys, types and bounds."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from reprlib import repr as shortened
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, create_model


def fault(schema: Any, value: Any, *, whole: bool = True) -> str:
    """What is wrong with a value: the key, with the nearest known one, and why; or nothing.

    Parameters
    ----------
    schema
        `Recipe`, one of `REGISTRIES`, or any other type that pydantic knows.
    value
        As JSON or YAML have it. Nothing is converted.
    whole
        Whether keys that are missing count.

    Examples
    --------
    >>> fault(Recipe, {"held_outt": 3}, whole=False)
    'held_outt is no known key, but held_out is'
    >>> fault(Recipe, {"mace": {"r_max": -1}}, whole=False)
    'mace.r_max should be greater than 0, not -1'
    >>> fault(Recipe, {"mace": {"r_max": 5}}, whole=False)
    ''
    """
    adapter, found = TypeAdapter(schema), []
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        found = [e for e in error.errors() if whole or e["type"] != "missing"]
    if not found:
        return ""
    # a misspelt key is the reason why another one is missing
    first = min(found, key=lambda e: e["type"] != "extra_forbidden")
    key = repr(".".join(map(str, first["loc"])))[1:-1][:80]
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "extra_forbidden":
        name, schemas = str(first["loc"][-1]), adapter.json_schema()
        parts = (schemas, *schemas["$defs"].values())
        known = {other for part in parts for other in part.get("properties", ())} - {name}
        near = "".join(f", but {n} is" for n in get_close_matches(name, known, 1))
        return f"{key} is no known key{near}"
    cause = re.sub("^(Input|String|List|Dictionary|Value error,) ", "", first["msg"])
    given = "" if ", not " in cause or not key else f", not {shortened(first['input'])}"
    return f"{key} {cause}{given}".strip()


def require(holds: bool, why: str) -> None:
    """Raise `ValueError` with a reason unless something holds."""
    if not holds:
        raise ValueError(why)


def element(symbol: str) -> str:
    """A chemical symbol, or `ValueError`."""
    from ase.data import chemical_symbols  # a slow import

    require(symbol in chemical_symbols[1:], "should be the symbol of an element")
    return symbol


def distinct(values: list) -> list:
    """A list without doubles, or `ValueError`."""
    require(len(set(values)) == len(values), "should name nothing twice")
    return values


def text(pattern: str) -> Any:
    """The type of a text that is a pattern from end to end."""
    return Annotated[str, Field(pattern=f"^({pattern})$", max_length=200)]


def several(kind: Any) -> Any:
    """The type of a list of distinct things, one at least."""
    return Annotated[list[kind], Field(min_length=1), AfterValidator(distinct)]


def by_name(kind: Any) -> Any:
    """The type of things by their names, one at least."""
    return Annotated[dict[str, kind], Field(min_length=1)]


def whole(low: int, high: int | None = None) -> Any:
    """The type of a whole number between bounds."""
    return Annotated[int, Field(ge=low, le=high)]


def table(name: str, kinds: Mapping[str, Any], check: Callable[[Any], None] | None = None) -> Any:
    """The type of a mapping with known keys, nothing converted and every number finite.

    Parameters
    ----------
    name
        That pydantic gives it.
    kinds
        Types by the keys that have them, with spaces between; one with a ``?`` may be left out.
    check
        Raises `ValueError` where values do not go together; what is left out is None.
    """
    pairs = [(key, kind) for keys, kind in kinds.items() for key in keys.split()]
    fields = {key.rstrip("?"): (kind, None if "?" in key else ...) for key, kind in pairs}
    config = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
    model = create_model(name, __config__=config, **fields)
    return Annotated[model, AfterValidator(lambda entry: (check and check(entry)) or entry)]


PLAIN = "[A-Za-z0-9][A-Za-z0-9._+-]*"  # a name that no file system takes for anything else
Name, File, Address = text(PLAIN), text(f"{PLAIN}(/{PLAIN})*"), text(r"https://\S+")
Sha256, Seed, Count = text("[0-9a-f]{64}"), whole(0, 2**32 - 1), whole(1)
Text, Element = Annotated[str, Field(min_length=1)], Annotated[str, AfterValidator(element)]
Positive, Weight = Annotated[float, Field(gt=0)], Annotated[float, Field(ge=0)]

# What a recipe may tell mace-torch's trainer. Whatever names a file, a folder, a device, or a model
# to start from is not among it: the trainer would unpickle it.
Mace = table(
    "Mace",
    {
        "seed": Seed,
        "model": Literal["ScaleShiftMACE"],
        "E0s": Literal["average"],
        "max_num_epochs": whole(1, 100_000),
        "num_channels? batch_size? valid_batch_size?": whole(1, 4096),
        "num_radial_basis? num_cutoff_basis?": whole(1, 64),
        "num_interactions? correlation?": whole(1, 6),
        "max_L? max_ell?": whole(0, 6),
        "r_max?": Annotated[float, Field(gt=0, le=20)],
        "lr? huber_delta? clip_grad?": Positive,
        "energy_weight? forces_weight? stress_weight? weight_decay?": Weight,
        "ema_decay? beta? lr_scheduler_gamma? lr_factor?": Annotated[float, Field(ge=0, le=1)],
        "compute_stress? amsgrad? ema? use_agnostic_product?": bool,
        "MLP_irreps?": text(r"[1-9]\d{0,3}x0e"),
        "radial_MLP?": text(r"\[[1-9]\d{0,3}(, [1-9]\d{0,3})*\]"),
        "radial_type?": Literal["bessel", "gaussian", "chebyshev"],
        "gate?": Literal["silu", "tanh", "abs"],
        "scaling?": Literal["std_scaling", "rms_forces_scaling", "no_scaling"],
        "loss?": Literal["weighted", "stress", "huber", "universal"],
        "optimizer?": Literal["adam", "adamw", "schedulefree"],
        "scheduler?": Literal["ExponentialLR", "ReduceLROnPlateau"],
        "default_dtype?": Literal["float32", "float64"],
    },
)


def check_recipe(recipe: Any) -> None:
    """What is trained on is listed, is not excluded, and weighs something."""
    unlisted = {*(recipe.training or ())} - {*recipe.datasets}
    require(not unlisted, f"training names {shortened(unlisted)}, which datasets does not")
    require(recipe.only not in (recipe.without or ()), "only and without name the same element")
    weights = (recipe.mace.energy_weight, recipe.mace.forces_weight, recipe.mace.stress_weight)
    require(any(w != 0 for w in weights), "mace gives energy, forces and stress no weight")


Recipe = table(
    "Recipe",
    {
        "name extends?": Name,
        "description? aspect? level?": str,
        "datasets": several(Text),
        "group": Text,
        "held_out validation max_atoms?": Count,
        "split_seed": Seed,
        "training?": by_name(Count),
        "only?": Element,
        "without?": several(Element),
        "mace": Mace,
    },
    check_recipe,
)
Download = table("Download", {"file": File, "url": Address, "sha256": Sha256})
Model = table(
    "Model",
    {
        "family description training_data functional licence": Text,
        "citation": str,
        "offline": bool,
        "like? started_from? architecture? objective?": Text,
        "version? head? modal? target? checkpoint? task? branch?": Text,  # of some families
        "file?": File,
        "url?": Address,
        "sha256?": Sha256,
        "environment?": Name,
        "trained_on?": several(Text),
        "parameters?": whole(0),
        "widths?": by_name(Count),
        "arguments?": Download,
    },
)


def check_dataset(entry: Any) -> None:
    """It is here, or can be downloaded, or somebody has to fetch it."""
    ways = [way for way in (entry.path, entry.file, entry.landing_page) if way]
    require(len(ways) == 1, "has to have one of path, file and landing_page")
    require(bool(entry.landing_page) != bool(entry.sha256), "has to have a sha256 for its file")
    require(bool(entry.file) == bool(entry.url), "has to have both file and url, or neither")


Dataset = table(
    "Dataset",
    {
        "description licence": Text,
        "citation": several(Text),
        "path? file?": File,
        "url? landing_page?": Address,
        "sha256?": Sha256,
        "structures? atoms? size?": Count,
    },
    check_dataset,
)


def check_claim(claim: Any) -> None:
    """It has evidence and a rule, or neither, and the rule compares with the evidence."""
    require(bool(claim.here) == bool(claim.rule), "has to have both here and rule, or neither")
    for side, other in (claim.rule or {}).items():
        known = not isinstance(other, str) or other in claim.here
        require(known, f"rule.{side} names {shortened(other)}, which here does not")


Evidence = table("Evidence", {"file": File, "query? after?": Text, "columns?": several(Text)})
Rule = Annotated[dict[Literal["below", "above"], float | str], Field(min_length=1, max_length=1)]
Claim = table(
    "Claim",
    {
        "section short place claim counterpart": Text,
        "there": by_name(str | None),
        "here?": by_name(Evidence),
        "rule?": Rule,
        "why": by_name(Text),
    },
    check_claim,
)
REGISTRIES = {
    "models": dict[str, Model],
    "datasets": dict[str, Dataset],
    "claims": dict[str, Claim],
}
