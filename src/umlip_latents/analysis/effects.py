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

from ..measures.comparison import Comparison, bootstrap_weights, estimate
from ..resources import DATA, InputError, unknown_name

ASPECTS = ("seed", "data", "loss", "optimiser", "architecture")
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
            raise unknown_name(aspect, "aspect", ASPECTS)
    rows = []
    for path in sorted((DATA / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        recipe = card["recipe"]
        row = {"name": card["name"], "aspect": recipe.get("aspect"), "level": recipe.get("level")}
        row |= {"seed": recipe["mace"]["seed"], "structures": card["n_structures"]["training"]}
        for kind, key in (("", "held_out_errors"), ("baseline ", "linear_baseline_errors")):
            errors = pd.DataFrame(card[key])
            errors["all"] = errors.mean(axis=1)
            for quantity, entry in (("energy", ENERGY), ("force", FORCE)):
                row |= errors.loc[entry].add_prefix(f"{quantity} {kind}").to_dict()
        rows.append(row)
    table = pd.DataFrame(rows)
    table["aspect"] = pd.Categorical(table["aspect"], ASPECTS, ordered=True)
    table = table[table["aspect"].isin(["seed", *aspects])]
    return table.sort_values(["aspect", "name"], ignore_index=True)


def effect_table(
    comparison: Comparison,
    seeds: Mapping[str, int],
    base: Sequence[str],
    levels: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    r"""Effect of every level in both directions, the seed floor, and their ratio.

    With :math:`e(a, b)` the GFRE of b from a, its median over the splits,

    .. math:: E_\to = \langle e(b, l) \rangle_{b \in B, l \in L, s_b \neq s_l}, \qquad
              E_0 = \langle e(b, b') \rangle_{b \neq b' \in B}

    and :math:`E_\leftarrow` with source and target exchanged, :math:`s` the seed. The 95 %
    intervals are those of the comparison's bootstrap, in which base seeds are drawn anew, too, the
    same for effect and floor.

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

    Raises
    ------
    InputError
        Fewer than two base models, or two of one seed.

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
    if len({seeds[name] for name in base}) < max(2, len(base)):
        raise InputError(f"{[*base]}: a seed floor needs two base models or more, of unlike seeds.")
    errors = comparison.draws["gfre"]
    times = resample_seeds(len(base), len(errors) - 1)
    index = {name: i for i, name in enumerate(comparison.names)}

    def mean_error(members: Sequence[str], forward: bool, same_seed: bool = False) -> np.ndarray:
        """The mean error over pairs of base and members, and after it those of the draws."""
        rows, columns = ([index[name] for name in names] for names in (base, members))
        table = (errors if forward else errors.swapaxes(1, 2))[:, rows][:, :, columns]
        pairs = np.array([[(seeds[b] == seeds[m]) == same_seed for m in members] for b in base])
        # of one seed: as many base models as there are, whatever was drawn
        weights = pairs * (np.ones_like(table) if same_seed else times[:, :, None])
        with np.errstate(invalid="ignore"):  # NaN where there is no pair
            return (weights * table).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))

    def add_row(level: str, direction: str, **values: np.ndarray) -> None:
        """With the first of each number's values, and the 95 % interval of the others."""
        rows.append({"level": level, "direction": direction})
        for name, x in values.items():
            rows[-1] |= zip((name, f"{name}_low", f"{name}_high"), estimate(x), strict=True)

    rows, floor = [], mean_error(base, True)
    add_row("base", "between seeds", error=floor, floor=floor, ratio=floor / floor)
    for level, members in levels.items():
        for direction, forward in (("base to level", True), ("level to base", False)):
            error, same_seed = (mean_error(members, forward, same) for same in (False, True))
            numbers = {"error": error, "floor": floor, "ratio": error / floor}
            add_row(level, direction, **numbers, same_seed=same_seed)
    return pd.DataFrame(rows)


def resample_seeds(n_seeds: int, n_draws: int) -> np.ndarray:
    """(1 + n_draws, n_seeds) how often each counts: once each, then in draws of two or more."""
    # of two seeds, the fewest that are allowed, half of the draws take one of them alone
    drawn = bootstrap_weights(n_seeds, 100 + 4 * n_draws, np.random.default_rng(0))
    return drawn[(drawn > 0).sum(axis=1) > 1][: 1 + n_draws]
