r"""How much one changed thing in a training changes the features, beside the spread of seeds.

A *level* is a set of models that differ from the base models in one thing, and in their seeds. Its
effect is the mean reconstruction error between base and level over pairs of different seeds; the
*seed floor* is the same mean over pairs of base models. Models of one seed start from the same
weights, so their error is not to be held against that floor and stands on its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .reconstruction import pointwise_errors, split_atoms, subtract_element_means
from .resources import DATA

Pair = tuple[str, str]
FACTORS = ("seed", "data", "loss", "optimiser", "architecture")
ENERGY, FORCE = "energy_mae_meV_per_atom", "force_mae_meV_per_angstrom"


def controlled_models() -> pd.DataFrame:
    """The shipped models of the controlled experiment and what their cards say.

    Returns
    -------
    pandas.DataFrame
        One row per model, base first: ``name``, ``factor``, ``level``, ``seed``, ``structures``
        (trained on) and, for each held-out data set and the mean of all (``all``), the columns
        ``energy <set>`` (meV/atom), ``force <set>`` (meV/angstrom) and the same two of the linear
        baseline, ``energy baseline <set>`` and ``force baseline <set>``.
    """
    rows = []
    for path in sorted((DATA / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        recipe = card["recipe"]
        if "factor" not in recipe:
            continue
        row = {
            "name": card["name"],
            "factor": recipe["factor"],
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
    order = pd.Categorical(table["factor"], FACTORS, ordered=True)
    return table.assign(factor=order).sort_values(["factor", "name"], ignore_index=True)


def squares_by_structure(
    features: Mapping[str, np.ndarray],
    n_atoms: np.ndarray,
    pairs: Sequence[Pair] | None = None,
    *,
    numbers: np.ndarray | None = None,
    among: np.ndarray | None = None,
    metric: str = "gfre",
    n_test: int = 1000,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[tuple[dict[Pair, np.ndarray], np.ndarray]]:
    """Sums of squared pointwise errors over the test atoms of each structure.

    Parameters
    ----------
    features
        Name to (n_atoms, width).
    n_atoms
        (n_structures,).
    pairs
        The (source, target) pairs to keep; all by default.
    numbers
        (n_atoms,) atomic numbers: if given, the mean of each element over the training atoms is
        taken off first (within-element errors), and test atoms of elements without are left out.
    among
        (n_atoms,) booleans: test atoms to judge on; all by default.
    metric
        ``"gfre"`` or ``"lfre"``.
    n_test, seeds
        Test atoms of each split by structure, and one seed for each split.

    Returns
    -------
    list
        For each split the sums, pair to (n_test_structures,), and (n_test_structures,) the number
        of test atoms in each structure.
    """
    structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
    found = []
    for seed in seeds:
        train, test = split_atoms(n_atoms, n_test, by="structure", seed=seed)
        tables = features
        if numbers is not None:
            test = test[np.isin(numbers[test], numbers[train])]
            tables = {n: subtract_element_means(x, numbers, train) for n, x in features.items()}
        if among is not None:
            test = test[among[test]]
        errors = pointwise_errors(tables, train, test, metric)
        _, group = np.unique(structure[test], return_inverse=True)
        sums = {
            pair: np.bincount(group, weights=np.square(errors[pair]))
            for pair in (errors if pairs is None else pairs)
        }
        found.append((sums, np.bincount(group)))
    return found


def effect_table(
    splits: Sequence[tuple[Mapping[Pair, np.ndarray], np.ndarray]],
    seeds: Mapping[str, int],
    base: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Effect of every level in both directions, the seed floor, and their ratio.

    With :math:`e(a, b)` the reconstruction error of b from a, a root mean square over test atoms,
    averaged over splits,

    .. math:: E_\to = \langle e(b, l) \rangle_{b \in B, l \in L, s_b \neq s_l}, \qquad
              E_0 = \langle e(b, b') \rangle_{b \neq b' \in B}

    and :math:`E_\leftarrow` with source and target exchanged, :math:`s` the seed. The 95 %
    intervals are those of a bootstrap that draws test structures and base seeds anew, the same for
    effect and floor.

    Parameters
    ----------
    splits
        From `squares_by_structure`.
    seeds
        Name to seed, for every model.
    base
        Names of the base models, at least two, of different seeds.
    levels
        Level to the names of its models.
    n_resamples, seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row per level and direction ("base to level", "level to base") with ``error``,
        ``floor``, ``ratio`` and ``same_seed`` (the mean error between models of one seed, if there
        are any), each with ``_low`` and ``_high``; the first row is the floor alone.
    """
    rng = np.random.default_rng(seed)
    seed_draws = [drawn_seeds(len(base), rng) for _ in range(n_resamples)]
    weights = [draws(len(counts), n_resamples, rng) for _, counts in splits]

    def errors(pair: Pair) -> np.ndarray:
        """The error of a pair, and after it the resampled ones."""
        per_split = [
            np.sqrt((w @ sums[pair]) / (w @ counts))
            for (sums, counts), w in zip(splits, weights, strict=True)
        ]
        return np.mean(per_split, axis=0)

    def over_pairs(members: Sequence[str], forward: bool, same_seed: bool) -> np.ndarray:
        """The mean error over pairs of base and members, and after it the resampled ones."""
        table = np.full((len(base), len(members), n_resamples + 1), np.nan)
        for i, b in enumerate(base):
            for j, m in enumerate(members):
                if (seeds[b] == seeds[m]) == same_seed:
                    table[i, j] = errors((b, m) if forward else (m, b))
        if same_seed:  # as many base models as there are, whatever was drawn
            pairs = ~np.isnan(table[:, :, 0])
            return table[pairs].mean(axis=0) if pairs.any() else np.full(n_resamples + 1, np.nan)
        chosen = [np.arange(len(base)), *seed_draws]
        return np.array([np.nanmean(table[who, :, n]) for n, who in enumerate(chosen)])

    floor = over_pairs(base, True, False)
    rows = [{"level": "base", "direction": "between seeds"} | summary(floor, floor)]
    for level, members in levels.items():
        for direction in ("base to level", "level to base"):
            forward = direction == "base to level"
            effect = over_pairs(members, forward, False)
            same = over_pairs(members, forward, True)
            row = {"level": level, "direction": direction} | summary(effect, floor)
            rows.append(row | interval("same_seed", same))
    return pd.DataFrame(rows)


def draws(n_structures: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + n_resamples, n_structures) how often each counts; in the first row once each."""
    resampled = rng.multinomial(n_structures, np.full(n_structures, 1 / n_structures), n_resamples)
    return np.concatenate([np.ones((1, n_structures)), resampled])


def drawn_seeds(n: int, rng: np.random.Generator) -> np.ndarray:
    """As many seeds drawn with replacement, not all the same one."""
    while True:
        chosen = rng.integers(n, size=n)
        if len(set(chosen)) > 1:
            return chosen


def summary(effect: np.ndarray, floor: np.ndarray) -> dict[str, float]:
    """Effect, floor and their ratio, with their intervals."""
    named = {"error": effect, "floor": floor, "ratio": effect / floor}
    return {k: v for name, values in named.items() for k, v in interval(name, values).items()}


def interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A value (first entry) and the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {name: values[0], f"{name}_low": low, f"{name}_high": high}
