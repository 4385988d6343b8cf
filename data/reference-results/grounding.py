"""Write ``full/08_measures-grounding.csv``: does each measure put in order what has a known order?

After ReSi (Klabunde et al. 2025), which grounds measures of likeness in tests of known outcome.
Chapter 08 draws it. A test is a list of comparisons: of two pairs of features one is known to be
the nearer. A measure is judged by the share of comparisons in which it says so; 0.5 is chance. Its
interval draws networks and halves of the structures, whose noise comes on top: a share can lie
above it. Shipped features, checkpoints of four families and half an hour are needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import (
    cosine_similarity,
    euclidean_distances,
    paired_cosine_distances,
)

from umlip_latents import (
    Features,
    FitOptions,
    Split,
    compare,
    extract_features,
    list_models,
    load_features,
    load_structures,
    published_models,
)
from umlip_latents.analysis.matched_pairs import ASPECTS, relation
from umlip_latents.features.extraction import features_by_layer
from umlip_latents.measures import DISTANCES, METRICS, SIMILARITIES
from umlip_latents.measures.comparison import Comparison
from umlip_latents.structures.splits import split_by_origin
from umlip_latents.training.fine_tuning import fine_tune
from umlip_latents.training.plan import TrainingSettings

DATASET = "alexandria-random-1k"
FOLDER = Path(__file__).with_name("full")
STORE = Path(__file__).parents[2] / "_build" / "features"
N_STRUCTURES = 300  # of these
HOW = {"split": Split(n_test=600), "options": FitOptions(n_test_local=30), "n_bootstrap": 6}
N_DRAWS = 200  # of networks, each with one draw of structures

DEEP = ["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan", "m3gnet-mp-2021", "m3gnet-matpes-pbe"]
DEEP += ["7net-0", "nequix-mp-1", "tensornet-matpes-pbe"]
ONE_EACH = ["chgnet-0.3.0", "7net-0", "nequix-mp-1", "tensornet-matpes-pbe", "m3gnet-mp-2021"]
ONE_EACH += ["qet-matq", "diep-2.0-matpes-r2scan"]
LEVELS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)  # of noise, in units of a feature's spread
EPOCHS = (0, 1, 2, 4, 8)

Pair = tuple[str, str]
Order = tuple[Pair, Pair, str]  # the nearer pair, the farther one, and a group


class Study(NamedTuple):
    """Tables of features by name, and comparisons among each one's by test."""

    tables: list[dict[str, Features]]
    tests: dict[str, list[Order]]


def relative_representations(x: np.ndarray, y: np.ndarray) -> float:
    """How far cosines to every tenth atom differ (Moschella et al. 2023); 0: not at all."""
    angles = [cosine_similarity(table, table[::10]) for table in (x, y)]
    return paired_cosine_distances(*angles).mean()


def rsa(x: np.ndarray, y: np.ndarray) -> float:
    """How badly distances of every third atom correlate (Kriegeskorte et al. 2008)."""
    return 1 - np.corrcoef([pdist(table[::3]) for table in (x, y)])[0, 1]


def jaccard(x: np.ndarray, y: np.ndarray) -> float:
    """One minus common over all of the 5 nearest neighbours in x or in y, of every third atom."""
    near = np.zeros((2, len(x[::3]), len(x[::3])), bool)
    for rows, table in zip(near, (x, y), strict=True):
        squares = euclidean_distances(table[::3], squared=True)
        np.fill_diagonal(squares, np.inf)
        np.put_along_axis(rows, squares.argpartition(4, axis=1)[:, :5], True, axis=1)
    both, either = near.all(axis=0).sum(axis=1), near.any(axis=0).sum(axis=1)
    return 1 - (both / either).mean()


MEASURES = [*METRICS, *SIMILARITIES, *DISTANCES, relative_representations, rsa, jaccard]


def along(names: Sequence[str], group: str, *, from_first: bool = False) -> list[Order]:
    """Of three in a row, neighbours are nearer than the ends; or just those to the first."""
    found = []
    for a, b, c in combinations(names, 3):
        if a == names[0] or not from_first:
            found += same_end(a, b, c, group)
        if not from_first:
            found += same_end(c, b, a, group)
    return found


def same_end(anchor: str, near: str, far: str, group: str) -> list[Order]:
    """To one name, and from it, for the measures that have a direction."""
    to, of = ((near, anchor), (far, anchor)), ((anchor, near), (anchor, far))
    return [(*to, group), (*of, group)]


def differences(one: str, other: str) -> set[str]:
    """In which things of the catalogue two differ, and ``start`` if their weights are unrelated."""
    known = list_models()
    differ = {aspect for aspect in ASPECTS if known[one][aspect] != known[other][aspect]}
    return differ if relation(one, other) else differ | {"start"}


def shipped(names: Sequence[str], layer: str = "backbone") -> dict[str, Features]:
    """Features that ship, of the structures that all tests use."""
    found = load_features(DATASET, names, layer)
    return {name: f.select(np.arange(N_STRUCTURES)) for name, f in found.items()}


def layers() -> Study:
    """Layers of one network, by depth."""
    structures, tables, orders = load_structures(DATASET)[:N_STRUCTURES], [], []
    for name in DEEP:
        found = features_by_layer(structures, name, store=STORE)
        kept = {k: f for k, f in found.items() if k.startswith("interaction") or k == "last"}
        *_, deepest, last = kept.values()
        if np.array_equal(deepest.features, last.features):
            kept.pop("last")
        tables.append({f"{name}, {layer}": f for layer, f in kept.items()})
        orders += along([*tables[-1]], name)
    return Study(tables, {"depth": orders})


def epochs() -> Study:
    """Checkpoints of one fine-tuning, by epoch."""
    training, held_out = split_by_origin(load_structures("li3ps4-gfn1"), 8, 2)
    structures, tables, orders = load_structures(DATASET)[:N_STRUCTURES], [], []
    for seed in range(3):
        how = ("full fine-tuning", TrainingSettings(epochs=EPOCHS[-1], seed=seed))
        run = fine_tune("chgnet-0.3.0", training, held_out, *how, cache=STORE / "fine-tuning")
        models = [run.model(epoch) for epoch in EPOCHS]
        tables.append({m.name: extract_features(structures, m, store=STORE) for m in models})
        orders += along([*tables[-1]], f"seed {seed}")
    return Study(tables, {"epochs": orders})


def noise() -> Study:
    """Features and the same with noise, by its level, as seen from those without."""
    tables, orders, rng = [], [], np.random.default_rng(0)
    for name, one in shipped(ONE_EACH).items():
        x, spread = one.features, one.features.std(axis=0).mean()
        noisy = {v: x + v * spread * rng.normal(size=x.shape).astype("f4") for v in LEVELS}
        tables.append({f"{name}, {v}": replace(one, features=x) for v, x in noisy.items()})
        orders += along([*tables[-1]], name, from_first=True)
    return Study(tables, {"noise": orders})


def kin() -> Study:
    """Public checkpoints: what differs in more must lie farther."""
    tests = {"shared weights": [], "another training": [], "other data": []}
    for anchor, near, far in permutations(published_models(), 3):
        less, more = differences(anchor, near), differences(anchor, far)
        orders = same_end(anchor, near, far, list_models()[anchor]["family"])
        if less < more and "start" in more - less:
            tests["shared weights"] += orders
        elif {"start"} == less < more:
            tests["another training"] += orders
        elif less < more and "architecture" in more - less:
            tests["other data"] += orders
    return Study([shipped(published_models())], tests)


def energies() -> Study:
    """Last layers of two families, by how far energies differ, and by what stitching costs."""
    table = pd.read_csv(FOLDER / "08_measures-stitching.csv")
    table = table.query("layer == 'last' and kin == 'another family'").dropna(subset="own")
    orders = {"energies": by_value(table, "own"), "stitching": by_value(table, "error")[::2]}
    return Study([shipped(sorted({*table["source"]}), "last")], orders)


def by_value(table: pd.DataFrame, value: str) -> list[Order]:
    """Of the sources of one target, the one with the smaller value must be the nearer."""
    orders = []
    for target, part in table.groupby("target"):
        group = list_models()[target]["family"]
        for near, far in combinations(part.sort_values(value)["source"], 2):
            orders += same_end(target, near, far, group)
    return orders


def judge(metric: str | Callable, study: Study) -> pd.DataFrame:
    """A row per test: share of comparisons in order, its interval, their number."""
    rows, results = [], [compare(table, [metric], **HOW) for table in study.tables]
    name = results[0].metrics[0]
    sign = -1 if name in SIMILARITIES else 1
    for test, orders in study.tests.items():
        found = np.empty((1 + N_DRAWS, len(orders)))
        for result in results:
            mine = [i for i, (near, _, _) in enumerate(orders) if near[0] in result.names]
            found[:, mine] = in_order(result, sign, [orders[i] for i in mine])
        groups = [[group] for *_, group in orders]
        drawn = groups if len(results) > 1 else [sorted({*a, *b}) for a, b, _ in orders]
        share = shares(found, groups, drawn)
        rows.append((name, test, share[0], *np.nanquantile(share[1:], [0.025, 0.975]), len(orders)))
    print(pd.DataFrame(rows).round(2).to_string(header=False, index=False), flush=True)
    return pd.DataFrame(rows, columns=["measure", "test", "share", "low", "high", "n"])


def in_order(result: Comparison, sign: int, orders: Sequence[Order]) -> np.ndarray:
    """(1 + n_draws, n_orders): 1 in order, 0 not, half for a tie."""
    ends = [[result.names.index(name) for name in near + far] for near, far, _ in orders]
    s, t, u, v = np.array(ends).T
    draws = sign * result.draws[result.metrics[0]]
    draws = draws[np.r_[0, 1 + np.arange(N_DRAWS) % (len(draws) - 1)]]
    return (1 + np.sign(draws[:, u, v] - draws[:, s, t])) / 2


def shares(found: np.ndarray, groups: Sequence, drawn: Sequence) -> np.ndarray:
    """(1 + n_draws,) shares, a group counting as much as another, with what is drawn anew."""
    names, members = np.unique(drawn, return_inverse=True)
    of_group = 1.0 * (np.array(groups) == np.unique(groups))
    of_group /= of_group.sum(axis=0)
    chances, rng = np.full(len(names), 1 / len(names)), np.random.default_rng(0)
    times = rng.multinomial(len(names), chances, len(found))
    times[0] = 1
    weights = times[:, members.reshape(len(drawn), -1)].prod(axis=2)
    with np.errstate(invalid="ignore"):  # nothing was drawn
        return (found * weights @ of_group).sum(axis=1) / (weights @ of_group).sum(axis=1)


if __name__ == "__main__":
    studies = [layers(), epochs(), noise(), kin(), energies()]
    table = pd.concat([judge(metric, study) for metric in MEASURES for study in studies])
    table.round(4).to_csv(FOLDER / "08_measures-grounding.csv", index=False, lineterminator="\n")
