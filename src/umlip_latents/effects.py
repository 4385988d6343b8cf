r"""How much one changed thing in a training changes the features, beside the spread of seeds.

A *level* is a set of models that differ from the base models in one thing, and in their seeds. Its
effect is the mean reconstruction error between base and level over pairs of different seeds; the
*seed floor* is the same mean over pairs of base models. Models of one seed start from the same
weights, so their error is not to be held against that floor and stands on its own.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .comparison import Comparison, estimate, resampled_means
from .resources import DATA, unknown

ASPECTS = ("seed", "data", "loss", "optimiser", "architecture")
N_RESAMPLES = 1000  # of the bootstrap
ENERGY, FORCE = "energy_mae_meV_per_atom", "force_mae_meV_per_angstrom"


def controlled_models(aspects: Sequence[str] = ASPECTS) -> pd.DataFrame:
    """The shipped models of the controlled experiment and what their cards say.

    Parameters
    ----------
    aspects
        Of the levels to take beside the seeds of the base.

    Returns
    -------
    pandas.DataFrame
        One row per model, base first: ``name``, ``aspect``, ``level``, ``seed``, ``structures``
        (trained on) and, for each held-out data set and the mean of all (``all``), the columns
        ``energy <set>`` (meV/atom), ``force <set>`` (meV/angstrom) and the same two of the linear
        baseline, ``energy baseline <set>`` and ``force baseline <set>``.

    Raises
    ------
    InputError
        No aspect, or an unknown one.

    Examples
    --------
    >>> controlled_models()["level"].tolist().count("base")
    4
    """
    for aspect in aspects or ["nothing"]:
        if aspect not in ASPECTS:
            raise unknown(aspect, "aspect", ASPECTS)
    rows = []
    for path in sorted((DATA / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        recipe = card["recipe"]
        if recipe.get("aspect") not in ("seed", *aspects):
            continue
        row = {
            "name": card["name"],
            "aspect": recipe["aspect"],
            "level": recipe["level"],
            "seed": recipe["mace"]["seed"],
            "structures": card["n_structures"]["training"],
        }
        for kind, key in (("", "held_out_errors"), ("baseline ", "linear_baseline_errors")):
            for quantity, entry in (("energy", ENERGY), ("force", FORCE)):
                values = {name: errors[entry] for name, errors in card[key].items()}
                values["all"] = float(np.mean(list(values.values())))
                row |= {f"{quantity} {kind}{name}": value for name, value in values.items()}
        rows.append(row)
    table = pd.DataFrame(rows)
    order = pd.Categorical(table["aspect"], ASPECTS, ordered=True)
    return table.assign(aspect=order).sort_values(["aspect", "name"], ignore_index=True)


def effect_table(
    comparison: Comparison,
    seeds: Mapping[str, int],
    base: Sequence[str],
    levels: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    r"""Effect of every level in both directions, the seed floor, and their ratio.

    With :math:`e(a, b)` the GFRE of b from a, a root mean square over test atoms, averaged over
    splits,

    .. math:: E_\to = \langle e(b, l) \rangle_{b \in B, l \in L, s_b \neq s_l}, \qquad
              E_0 = \langle e(b, b') \rangle_{b \neq b' \in B}

    and :math:`E_\leftarrow` with source and target exchanged, :math:`s` the seed. The 95 %
    intervals are those of a bootstrap that draws test structures and base seeds anew, the same for
    effect and floor.

    Parameters
    ----------
    comparison
        Of base and level models, GFREs among its metrics.
    seeds
        Name to seed, for every model.
    base
        Names of the base models, at least two, of different seeds.
    levels
        Level to the names of its models.

    Returns
    -------
    pandas.DataFrame
        One row per level and direction ("base to level", "level to base") with ``error``,
        ``floor``, ``ratio`` and ``same_seed`` (the mean error between models of one seed, if there
        are any), each with ``_low`` and ``_high``; the first row is the floor alone.

    Examples
    --------
    >>> from umlip_latents import Features, compare
    >>> rng = np.random.default_rng(0)
    >>> about = np.full(60, 5), np.full(300, 14), np.arange(60)
    >>> names = ("base-s0", "base-s1", "level-s2")
    >>> found = compare({n: Features(rng.normal(size=(300, 2)), *about) for n in names})
    >>> seeds = dict(zip(names, range(3)))
    >>> table = effect_table(found, seeds, names[:2], {"level": names[2:]})
    >>> table["ratio"].round(1).tolist()
    [1.0, 1.0, 1.0]
    """
    rng = np.random.default_rng(0)
    drawn = [np.arange(len(base)), *(drawn_seeds(len(base), rng) for _ in range(N_RESAMPLES))]
    times = np.array([np.bincount(who, minlength=len(base)) for who in drawn])
    place = {name: i for i, name in enumerate(comparison.names)}
    splits = comparison.squares["gfre"]
    errors = sum(np.sqrt(resampled_means(*s, N_RESAMPLES, rng)) for s in splits) / len(splits)

    def over_pairs(members: Sequence[str], forward: bool, same_seed: bool) -> np.ndarray:
        """The mean error over pairs of base and members, and after it the resampled ones."""
        at_base, at_members = ([place[name] for name in names] for names in (base, members))
        table = (errors if forward else errors.swapaxes(1, 2))[:, at_base][:, :, at_members]
        pairs = np.array([[(seeds[b] == seeds[m]) == same_seed for m in members] for b in base])
        # of one seed: as many base models as there are, whatever was drawn
        weights = pairs * np.ones_like(table) if same_seed else pairs * times[:, :, None]
        with np.errstate(invalid="ignore"):  # NaN where there is no pair
            return (weights * table).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))

    floor = over_pairs(base, True, False)
    base_row = {"level": "base", "direction": "between seeds"}
    rows = [base_row | summary(error=floor, floor=floor, ratio=floor / floor)]
    for level, members in levels.items():
        for direction, forward in (("base to level", True), ("level to base", False)):
            error, same_seed = (over_pairs(members, forward, same) for same in (False, True))
            found = summary(error=error, floor=floor, ratio=error / floor, same_seed=same_seed)
            rows.append({"level": level, "direction": direction} | found)
    return pd.DataFrame(rows)


def drawn_seeds(n: int, rng: np.random.Generator) -> np.ndarray:
    """As many seeds drawn with replacement, not all the same one."""
    while True:
        chosen = rng.integers(n, size=n)
        if len(set(chosen)) > 1:
            return chosen


def summary(**values: np.ndarray) -> dict[str, float]:
    """Of each its value (first entry) and the 95 % interval of the others."""
    row = {}
    for name, x in values.items():
        row |= zip((name, f"{name}_low", f"{name}_high"), estimate(x), strict=True)
    return row
