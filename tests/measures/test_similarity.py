"""Measures of likeness: definitions written out, closed forms, invariances, known limits."""

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from umlip_latents import Features, Split, compare, split_atoms
from umlip_latents.measures import DISTANCES, SIMILARITIES
from umlip_latents.measures.neighbours import (
    cknna,
    distances_to_others,
    information_imbalance,
    median_distance,
    neighbour_overlap,
)
from umlip_latents.measures.similarity import (
    cka,
    debiased_alignment,
    half_samples,
    procrustes,
    pwcca,
    similarity_matrix,
    svcca,
)
from umlip_latents.resources import InputError

MEASURES = (*SIMILARITIES, *DISTANCES)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6)) * [3, 2, 1, 1, 0.5, 0.2]
Y = np.hstack([X[:, :3] + 0.5 * RNG.normal(size=(300, 3)), RNG.normal(size=(300, 2))])
GROUPS = np.repeat(np.arange(60), 5)
EACH = np.arange(300)  # an atom is a group


@pytest.mark.parametrize("metric", MEASURES)
def test_a_rotation_a_shift_and_a_scale_change_nothing(metric):
    rotation = np.eye(6) if metric == "pwcca" else ortho_group.rvs(6, random_state=1)
    turned = 7 * X @ rotation - 3
    found = similarity_matrix(metric, [X, turned, Y], GROUPS)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-8)
    assert found[2, 0] == pytest.approx(found[2, 1], abs=1e-8)
    alike = 2 / 295 if metric == "imbalance" else float(metric in SIMILARITIES)
    # a distance of 1e-8 is the root of the rounding
    assert found[0, 1] == pytest.approx(alike, abs=1e-6)


@pytest.mark.parametrize("metric", MEASURES)
def test_the_order_of_the_atoms_and_of_the_tables_changes_nothing(metric):
    order = np.random.default_rng(2).permutation(300)
    found = similarity_matrix(metric, [X, Y], GROUPS)
    assert similarity_matrix(metric, [X[order], Y[order]], GROUPS[order]) == pytest.approx(
        found, abs=1e-7
    )
    assert similarity_matrix(metric, [Y, X], GROUPS) == pytest.approx(found[::-1, ::-1], abs=1e-7)
    assert np.allclose(found, found.T) == (metric not in ("pwcca", "imbalance"))


@pytest.mark.parametrize("metric", MEASURES)
def test_unrelated_tables_are_far_apart_and_noise_takes_away(metric):
    x, other = np.random.default_rng(3).normal(size=(2, 2000, 2))
    noise = np.random.default_rng(4).normal(size=x.shape)
    found = similarity_matrix(metric, [x, x + 0.2 * noise, x + noise, other], np.arange(2000))[0]
    nearer = np.diff(found) < 0 if metric in SIMILARITIES else np.diff(found) > 0
    assert nearer.all()
    # the overlap of chance is a hundredth, correlations of chance fall as one over root n
    far = {"overlap": 0.01, "svcca": 0.02, "pwcca": 0.02, "procrustes": 1, "imbalance": 1}
    assert found[3] == pytest.approx(far.get(metric, 0), abs=0.03)


def test_debiased_cka_is_a_mean_over_four_atoms_at_a_time():
    x, y = np.random.default_rng(5).normal(size=(2, 7, 3))
    y[:, 0] += x[:, 0]
    k, m = x @ x.T, y @ y.T

    def hsic(k, m):
        """The U-statistic of Song et al., theorem 3, over all quadruples of different atoms."""
        terms = [
            k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
            for i, j, q, r in permutations(range(len(k)), 4)
        ]
        return np.mean(terms)

    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert cka([x, y])[0, 1] == pytest.approx(expected, abs=1e-10)


def test_rbf_cka_is_that_of_gaussian_kernels():
    expected = similarity_matrix("cka-rbf", [X, Y], GROUPS)
    distances = [cdist(z, z) for z in (X, Y)]
    kernels = [np.exp(-(d**2) / 2 / np.median(d[d > 0]) ** 2) for d in distances]
    assert expected == pytest.approx(debiased_alignment(kernels), abs=1e-10)


def test_overlap_and_cknna_are_those_of_a_loop_over_the_atoms():
    searches = (NearestNeighbors(n_neighbors=3).fit(z) for z in (X, Y))
    near = [search.kneighbors(return_distance=False) for search in searches]
    shares = [len({*a} & {*b}) / 3 for a, b in zip(*near, strict=True)]
    assert neighbour_overlap([X, Y], EACH)[0, 1] == pytest.approx(np.mean(shares))
    k, m = ((z - z.mean(axis=0)) @ (z - z.mean(axis=0)).T for z in (X, Y))

    def alignment(k, m, a, b):
        return sum(k[i, j] * m[i, j] for i in range(300) for j in {*a[i]} & {*b[i]})

    scale = alignment(k, k, near[0], near[0]) * alignment(m, m, near[1], near[1])
    expected = alignment(k, m, *near) / np.sqrt(scale)
    assert cknna([X, Y], EACH)[0, 1] == pytest.approx(expected, abs=1e-10)


def test_siblings_are_no_neighbours():
    # atoms of a structure lie close together in either table, and nothing else is common
    rng = np.random.default_rng(7)
    x, y = (rng.normal(size=(60, 3))[GROUPS] + 0.01 * rng.normal(size=(300, 3)) for _ in "xy")
    assert neighbour_overlap([x, y], EACH)[0, 1] > 0.5
    assert neighbour_overlap([x, y], GROUPS)[0, 1] < 0.1
    assert information_imbalance([x, y], EACH)[0, 1] < 0.1
    assert information_imbalance([x, y], GROUPS)[0, 1] == pytest.approx(1, abs=0.15)
    ((_, squares),) = distances_to_others([x], GROUPS)
    assert np.array_equal(np.isinf(squares), GROUPS[:, None] == GROUPS)


def test_what_a_table_does_not_tell_apart_agrees_with_nothing():
    kinds = np.eye(3)[np.random.default_rng(8).integers(3, size=600)]
    inner = np.random.default_rng(9).normal(size=(600, 2))
    full = np.hstack([100 * kinds, inner])
    pair = [kinds, full]
    each = np.arange(600)
    overlap, imbalance = neighbour_overlap(pair, each), information_imbalance(pair, each)
    # six neighbours of some 200 atoms of the kind
    assert overlap[0, 1] == pytest.approx(6 / 200, abs=0.015)
    # half of a third of all atoms, to either side
    assert imbalance[0, 1] == pytest.approx(1 / 3, abs=0.03)


def test_information_imbalance_is_that_of_a_loop_and_has_its_limits():
    a, b = (cdist(z, z) + np.diag(np.full(300, np.inf)) for z in (X, Y))
    ranks = [1 + (b[i] < b[i, a[i].argmin()]).sum() for i in range(300)]
    found = information_imbalance([X, Y], EACH)
    assert found[0, 1] == pytest.approx(2 / 299 * np.mean(ranks), abs=1e-12)
    assert np.diag(found) == pytest.approx(2 / 299)


def test_svcca_is_the_mean_canonical_correlation():
    full = X[:, :3], np.hstack([X[:, :2], RNG.normal(size=(300, 1))]) @ RNG.normal(size=(3, 3))
    fitted = CCA(3, max_iter=5000, tol=1e-12).fit(*full).transform(*full)
    expected = [abs(np.corrcoef(fitted[0][:, i], fitted[1][:, i])[0, 1]) for i in range(3)]
    assert svcca(full)[0, 1] == pytest.approx(np.mean(expected), abs=1e-4)


def test_pwcca_weighs_canonical_correlations_by_the_target():
    found = pwcca([Y, X])[0, 1]
    y, x = (z - z.mean(axis=0) for z in (Y, X))
    fitted = CCA(5, max_iter=5000, tol=1e-12, scale=False).fit(x, y)
    variates, others = fitted.transform(x, y)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(variates.T, others.T, strict=True)]
    variates = variates / np.linalg.norm(variates, axis=0)
    weights = np.abs(variates.T @ x).sum(axis=1)
    assert found == pytest.approx(np.average(correlations, weights=weights), abs=1e-3)


def test_the_procrustes_distance_is_that_of_scipy():
    wide = np.hstack([Y, np.zeros((300, 1))])
    disparity = scipy_procrustes(X, wide)[2]  # with the best scale, 1 - |X'Y|_*^2
    assert 1 - (1 - procrustes([X, Y])[0, 1] ** 2) ** 2 == pytest.approx(disparity, abs=1e-10)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([X, Y[:10]], "equally many"),
        ([X[:3], Y[:3]], "4 at least"),
        ([X, np.full((300, 2), np.nan)], "table 1: .*finite"),
        ([X, np.ones((300, 2))], "table 1: .*do not vary"),
        ([X, Y[:, 0]], "table"),
    ],
)
def test_bad_tables_are_named(tables, words):
    with pytest.raises(InputError, match=words):
        similarity_matrix("cka", tables, GROUPS)
    with pytest.raises(InputError, match="other groups"):
        similarity_matrix("overlap", tables, np.zeros(300))


def test_zero_distances_set_no_width():
    assert median_distance(np.repeat([[0.0], [1.0]], [9, 2], axis=0)) == 1


def correlated(seed: int, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns of correlation rho, constant but for noise in structures of 1 to 4 atoms."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, size=80)
    hidden = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=80).repeat(sizes, axis=0)
    return hidden[:, :1], hidden[:, 1:], np.arange(80).repeat(sizes)


def test_intervals_from_halves_cover_a_known_value():
    # of one column each, CKA is the squared correlation; atoms of a structure are no new evidence
    covered = {"structure": 0, "atom": 0}
    for seed in range(40):
        x, y, structure = correlated(seed, 0.7)
        for by, groups in {"structure": structure, "atom": np.arange(len(x))}.items():
            value, *halves = half_samples("cka", [x, y], groups, 50)[:, 0, 1]
            low, high = value + np.quantile(halves - np.mean(halves), [0.025, 0.975])
            covered[by] += low <= 0.7**2 <= high
    assert covered["structure"] >= 34
    assert covered["atom"] < covered["structure"]


def test_too_few_structures_have_no_halves_and_constant_halves_are_left_out():
    few = np.repeat([0, 1, 2], 100)
    assert half_samples("cka", [X, Y], few, 10).shape == (1, 2, 2)
    rare = np.zeros((300, 1))
    rare[:10] = 1  # in two structures of 60, so that a quarter of the halves has none
    found = half_samples("cka", [X, rare], GROUPS, 40)
    assert 21 <= len(found) <= 40


def features(**tables: np.ndarray) -> dict[str, Features]:
    """Features of 60 structures of 5 atoms."""
    numbers = np.tile([8, 8, 14, 14, 14], 60)
    about = np.full(60, 5), numbers, np.arange(60)
    return {name: Features(x, *about) for name, x in tables.items()}


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Of Székely, Rizzo and Bakirov (2007)."""
    a, b = (cdist(z, z) for z in (x, y))
    a, b = (d - d.mean(axis=0) - d.mean(axis=1)[:, None] + d.mean() for d in (a, b))
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def test_the_comparing_call_gives_the_measure_on_the_test_atoms():
    """Measures of the package, and a function of one's own beside them."""
    metrics, split = (*MEASURES, distance_correlation), Split(n_test=100)
    found = compare(features(x=X, y=Y), metrics=metrics, split=split, n_splits=2)
    assert found.metrics == (*MEASURES, "distance_correlation")
    by_split = found.by_split.set_index(["metric", "split", "source", "target"])["error"]
    for metric, name in zip(metrics, found.metrics, strict=True):
        each = []
        for seed in (0, 1):
            _, test = split_atoms(np.full(60, 5), 100, by="structure", seed=seed)
            each.append(similarity_matrix(metric, [X[test], Y[test]], GROUPS[test]))
            assert by_split[name, seed, "x", "y"] == pytest.approx(each[-1][0, 1])
        assert found.matrix(name).to_numpy() == pytest.approx(np.median(each, axis=0))
        row = found.table.query("metric == @name and source == 'x'").iloc[0]
        assert row["low"] < row["error"] < row["high"]
        assert found.over([("x", "y")], name).value == row["error"]
    # what it is given is centred and scaled, which it does not see
    assert each[-1][0, 1] == pytest.approx(distance_correlation(2 * X[test] - 1, Y[test]))
    labels = [axis.get_ylabel() for axis in found.heat_map().axes]
    assert labels.count("similarity") == len(SIMILARITIES)


def test_without_draws_there_is_no_interval_and_what_is_constant_in_the_test_is_left_out():
    tables = features(x=X, y=Y, z=np.zeros((300, 1)))
    tables["z"].features[:5] = RNG.normal(size=(5, 1))
    found = compare(tables, ("cka",), split=Split(seed=1), n_bootstrap=0)
    assert found.table["low"].isna().all()
    assert list(found.left_out) == ["z"]
