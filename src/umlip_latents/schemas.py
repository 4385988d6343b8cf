"""What a recipe and the registries may hold: keys, types and bounds."""

from __future__ import annotations

import re
from difflib import get_close_matches
from reprlib import repr as shortened
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from ase.data import chemical_symbols
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

PLAIN = "[A-Za-z0-9][A-Za-z0-9._+-]*"  # a name that no file system takes for anything else


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
    'held_outt is no key that is known here, but held_out is'
    >>> fault(Recipe, {"mace": {"r_max": -1}}, whole=False)
    'mace.r_max should be greater than 0, not -1'
    >>> fault(Recipe, {"mace": {"r_max": 5}}, whole=False)
    ''
    """
    adapter = TypeAdapter(schema)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        found = [e for e in error.errors() if whole or e["type"] != "missing"]
    else:
        return ""
    if not found:
        return ""
    # a misspelt key is the reason why another one is missing
    first = min(found, key=lambda e: e["type"] != "extra_forbidden")
    key = repr(".".join(map(str, first["loc"])))[1:-1][:80]
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "extra_forbidden":
        schemas = adapter.json_schema()
        parts = (schemas, *schemas.get("$defs", {}).values())
        known = {name for part in parts for name in part.get("properties", ())} - {first["loc"][-1]}
        near = get_close_matches(str(first["loc"][-1]), known, 1)
        return f"{key} is no key that is known here" + f", but {near[0]} is" * bool(near)
    cause = re.sub("^(Input|String|List|Dictionary|Value error,) ", "", first["msg"])
    given = "" if ", not " in cause or not key else f", not {shortened(first['input'])}"
    return f"{key} {cause}{given}".strip()


def require(holds: bool, why: str) -> None:
    """Raise `ValueError` with a reason unless something holds."""
    if not holds:
        raise ValueError(why)


def element(symbol: str) -> str:
    """A chemical symbol, or `ValueError`."""
    require(symbol in chemical_symbols[1:], "should be the symbol of an element")
    return symbol


def distinct(values: list) -> list:
    """A list without doubles, or `ValueError`."""
    require(len(set(values)) == len(values), "should name nothing twice")
    return values


Text = Annotated[str, MinLen(1)]
Name = Annotated[str, StringConstraints(pattern=f"^{PLAIN}$", max_length=200)]
RelativePath = Annotated[str, StringConstraints(pattern=f"^{PLAIN}(/{PLAIN})*$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Address = Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
Element = Annotated[str, AfterValidator(element)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Share = Annotated[float, Ge(0), Le(1)]


class Strict(BaseModel):
    """No other keys, nothing converted, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# What a recipe may tell mace-torch's trainer. Whatever names a file, a folder, a device, or a model
# to start from is not among it: the trainer would unpickle it.
REQUIRED = {
    "seed": Seed,
    "model": Literal["ScaleShiftMACE"],
    "E0s": Literal["average"],
    "max_num_epochs": Annotated[int, Ge(1), Le(100_000)],
}
OPTIONAL = {
    Annotated[int, Ge(1), Le(4096)]: "num_channels batch_size valid_batch_size",
    Annotated[int, Ge(1), Le(64)]: "num_radial_basis num_cutoff_basis",
    Annotated[int, Ge(1), Le(6)]: "num_interactions correlation",
    Annotated[int, Ge(0), Le(6)]: "max_L max_ell",
    Annotated[PositiveFloat, Le(20)]: "r_max",
    Annotated[PositiveFloat, Le(10)]: "lr",
    PositiveFloat: "huber_delta clip_grad",
    NonNegativeFloat: "energy_weight forces_weight stress_weight weight_decay",
    Share: "ema_decay beta lr_scheduler_gamma lr_factor",
    bool: "compute_stress amsgrad ema use_agnostic_product",
    Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,3}x0e$")]: "MLP_irreps",
    Annotated[str, StringConstraints(pattern=r"^\[\d{1,4}(, \d{1,4})*\]$")]: "radial_MLP",
    Literal["bessel", "gaussian", "chebyshev"]: "radial_type",
    Literal["silu", "tanh", "abs"]: "gate",
    Literal["std_scaling", "rms_forces_scaling", "no_scaling"]: "scaling",
    Literal["weighted", "stress", "huber", "universal"]: "loss",
    Literal["adam", "adamw", "schedulefree"]: "optimizer",
    Literal["ExponentialLR", "ReduceLROnPlateau"]: "scheduler",
    Literal["float32", "float64"]: "default_dtype",
}
Mace = create_model(
    "Mace",
    __base__=Strict,
    **{name: (kind, ...) for name, kind in REQUIRED.items()},
    **{name: (kind, None) for kind, names in OPTIONAL.items() for name in names.split()},
)


class Recipe(Strict):
    """See `training.read_recipe` and `training.recipe_parts`."""

    extends: Name = ""
    name: Name
    description: str = ""
    aspect: str = ""
    level: str = ""
    datasets: Annotated[list[Text], MinLen(1), AfterValidator(distinct)]
    group: Text
    held_out: PositiveInt
    validation: PositiveInt
    split_seed: Seed
    training: Annotated[dict[str, PositiveInt], MinLen(1)] = {}
    max_atoms: PositiveInt = None
    only: Element = None
    without: Annotated[list[Element], AfterValidator(distinct)] = []
    mace: Mace

    @model_validator(mode="after")
    def check(self) -> Recipe:
        """What is trained on is listed, is not excluded, and weighs something."""
        unlisted = self.training.keys() - set(self.datasets)
        require(not unlisted, f"training names {shortened(unlisted)}, which datasets do not")
        require(self.only not in self.without, "only and without name the same element")
        weights = (self.mace.energy_weight, self.mace.forces_weight, self.mace.stress_weight)
        require(any(w != 0 for w in weights), "mace gives energy, forces and stress no weight")
        return self


class File(Strict):
    """A file to download."""

    file: RelativePath
    url: Address
    sha256: Sha256


class Model(Strict):
    """An entry of ``data/models.yaml``; what only some families have is at the end."""

    family: Text
    description: Text
    training_data: Text
    functional: Text
    licence: Text
    citation: str
    offline: bool
    environment: Name = ""
    file: RelativePath = ""
    url: Address = ""
    sha256: Sha256 = ""
    like: Text = ""
    architecture: Text = ""
    trained_on: Annotated[list[Text], MinLen(1), AfterValidator(distinct)] = []
    objective: Text = ""
    started_from: Text = ""
    parameters: NonNegativeInt = 0
    widths: Annotated[dict[str, PositiveInt], MinLen(1)] = {}
    arguments: File = None
    version: Text = ""
    head: Text = ""
    modal: Text = ""
    target: Text = ""
    checkpoint: Text = ""
    task: Text = ""
    branch: Text = ""

    @model_validator(mode="after")
    def check(self) -> Model:
        """An address and a hash are those of a file."""
        require(bool(self.file) or not (self.url or self.sha256), "has an address but no file")
        return self


class Dataset(Strict):
    """An entry of ``data/datasets.yaml``."""

    description: Text
    licence: Text
    citation: Annotated[list[Text], MinLen(1), AfterValidator(distinct)]
    structures: PositiveInt = None
    atoms: PositiveInt = None
    path: RelativePath = ""
    file: RelativePath = ""
    url: Address = ""
    size: PositiveInt = None
    sha256: Sha256 = ""
    landing_page: Address = ""

    @model_validator(mode="after")
    def check(self) -> Dataset:
        """It is here, or can be downloaded, or somebody has to fetch it."""
        ways = (self.path, self.file, self.landing_page)
        require(sum(map(bool, ways)) == 1, "has to have one of path, file and landing_page")
        require(bool(self.landing_page) != bool(self.sha256), "has to have a sha256 for its file")
        require(bool(self.file) == bool(self.url), "has to have both file and url, or neither")
        return self


class Evidence(Strict):
    """Where a number of ours stands."""

    file: RelativePath
    query: Text = ""
    columns: Annotated[list[Text], MinLen(1)] = []
    after: Text = ""


class Rule(Strict):
    """What a claim needs to hold: the first number lies to one side of a limit or another one."""

    below: float | str = None
    above: float | str = None


class Claim(Strict):
    """An entry of ``data/claims.yaml``, which tells what each key holds."""

    section: Text
    short: Text
    place: Text
    claim: Text
    there: Annotated[dict[str, str | None], MinLen(1)]
    here: Annotated[dict[str, Evidence], MinLen(1)] = {}
    rule: Rule = None
    why: dict[Literal["agrees", "differs", "left open", "cannot be tested here"], Text]
    counterpart: Text

    @model_validator(mode="after")
    def check(self) -> Claim:
        """There is a reason for every verdict that the numbers could give."""
        verdicts = {"agrees", "differs", "left open"} if self.here else {"cannot be tested here"}
        require(self.why.keys() == verdicts, f"why needs reasons for {', '.join(sorted(verdicts))}")
        require(bool(self.here) == bool(self.rule), "has to have both here and rule, or neither")
        for spec in self.here.values():
            require(bool(spec.query) != bool(spec.after), "here needs either query or after")
        if self.rule:
            sides = [v for v in (self.rule.below, self.rule.above) if v is not None]
            require(len(sides) == 1, "rule needs either below or above")
            known = not isinstance(sides[0], str) or sides[0] in self.here
            require(known, f"rule names {shortened(sides[0])}, which is not among here")
        return self


REGISTRIES = {
    "models": dict[str, Model],
    "datasets": dict[str, Dataset],
    "claims": dict[str, Claim],
}
