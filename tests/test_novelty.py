"""Novelty, duplicates, choice and distances against closed forms, other implementations, models."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, pdist
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from umlip_latents import Features, cumulant_features, extract_features
from umlip_latents.cli import main
from umlip_latents.novelty import (
    ORDER,
    RIDGE,
    SHARE,
    farthest_points,
    frechet_distance,
    maximum_mean_discrepancy,
    near_duplicates,
    novelty,
    novelty_scores,
    separation,
    set_distances,
)
from umlip_latents.properties import rotated, translated
from umlip_latents.resources import InputError


def made(x, n_atoms=None, **about):
    """Features of structures with so many atoms each, by default one."""
    n_atoms = np.ones(len(x), dtype=int) if n_atoms is None else np.asarray(n_atoms)
    return Features(np.asarray(x), n_atoms, np.ones(len(x), int), np.arange(len(n_atoms)), **about)


@pytest.fixture
def clouds():
    """A reference of 200 atoms in correlated directions of unlike spread, and new ones."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6)) * [9, 4, 2, 1, 0.3, 0.1]
    return rng.normal(size=(200, 6)) @ mix.T + 5, rng.normal(size=(40, 6)) @ mix.T * 2


def centred(x, y):
    """Both in units of the reference's spread."""
    return tuple((z - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum()) for z in (x, y))


def test_distance_and_sparsity_agree_with_brute_force(clouds):
    found = novelty_scores(*map(made, clouds))
    distances = np.sort(cdist(*centred(*clouds)), axis=0)
    np.testing.assert_allclose(found["distance"], distances[0], rtol=1e-9)
    np.testing.assert_allclose(found["sparsity"], distances[4], rtol=1e-9)


def test_leverage_is_that_of_ridge_regression(clouds):
    x, y = centred(*clouds)
    found = novelty_scores(*map(made, clouds))["leverage"]
    gram = x.T @ x + RIDGE * len(x) * np.eye(6)
    np.testing.assert_allclose(found, np.diag(y @ np.linalg.solve(gram, y.T)), rtol=1e-9)
    # the change of a fitted point's prediction with its own label is its leverage
    own, label = novelty_scores(made(clouds[0]), made(clouds[0]))["leverage"], np.zeros(len(x))
    label[7] = 1
    ridge = Ridge(alpha=RIDGE * len(x), fit_intercept=False).fit(x, label)
    assert ridge.predict(x[7:8])[0] == pytest.approx(own.iloc[7], rel=1e-9)


def test_residual_is_what_a_principal_component_analysis_leaves(clouds):
    x, y = centred(*clouds)
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = np.searchsorted(np.cumsum(s**2) / (s**2).sum(), SHARE) + 1
    assert 0 < rank < 6
    left = y - y @ vt[:rank].T @ vt[:rank]
    found = novelty_scores(*map(made, clouds))["residual"]
    np.testing.assert_allclose(found, np.linalg.norm(left, axis=1), rtol=1e-9)


def test_scores_do_not_know_units_origin_and_orientation(clouds):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    moved = [made(300 * z @ turn - 17) for z in clouds]
    np.testing.assert_allclose(
        novelty_scores(*moved), novelty_scores(*map(made, clouds)), rtol=1e-6, atol=1e-9
    )


def test_a_structure_scores_the_mean_of_its_atoms(clouds):
    x, y = clouds
    alone = novelty_scores(made(x), made(y)).to_numpy()
    together = novelty_scores(made(x), replace(made(y, [30, 10]), kept=np.array([4, 9])))
    assert together.index.tolist() == [4, 9]
    expected = [alone[:30].mean(axis=0), alone[30:].mean(axis=0)]
    np.testing.assert_allclose(together, expected, rtol=1e-9)


def siblings(rng, n):
    """Structures in families of four that lie close together, and what family each is of."""
    centres = rng.normal(size=(n // 4, 8))
    return made(np.repeat(centres, 4, axis=0) + rng.normal(0, 0.05, (n, 8))), np.arange(n) // 4


def test_percentiles_of_exchangeable_structures_are_uniform():
    rng = np.random.default_rng(0)
    drawn = [siblings(rng, 160) for _ in range(8)]
    one = [
        novelty(known, new, groups=labels)
        for (known, labels), (new, _) in zip(drawn[:4], drawn[4:], strict=True)
    ]
    for score in ("distance", "leverage"):
        # one of each family, since siblings share their percentile
        values = np.concatenate([found[f"{score}_percentile"].to_numpy()[::4] for found in one])
        assert kstest(values / 100, "uniform").pvalue > 0.01
    # with its siblings at hand every structure of the reference looks familiar, and all else new
    known, new = drawn[0][0], drawn[4][0]
    assert novelty(known, new)["distance_percentile"].median() > 99


def test_percentiles_of_the_far_and_the_central():
    rng = np.random.default_rng(1)
    known = made(rng.normal(size=(100, 4)))
    found = novelty(known, made([np.full(4, 30.0), known.features.mean(axis=0)]))
    assert found["leverage_percentile"].tolist() == [100, 0]


def test_separation_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    scores, new = rng.integers(9, size=120) / 2, rng.random(120) < 0.3
    found = separation(scores, new, np.arange(120) // 3, n_bootstrap=50)
    assert found[0] == pytest.approx(roc_auc_score(new, scores), abs=1e-12)
    assert len(found) == 51
    assert found[1:].std() > 0.01
    # drawn together, groups hold less than as many single structures
    whole = np.arange(120) // 30
    assert separation(scores, new, whole)[1:].std() != separation(scores, new, range(120))[1:].std()
    with pytest.raises(InputError, match="familiar structures and new ones"):
        separation(scores, np.full(120, True), range(120))


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 1)), 3 + 2 * rng.normal(size=(400, 1))
    one_dimension = np.hypot(x.mean() - y.mean(), x.std() - y.std())
    assert frechet_distance(x, y) == pytest.approx(one_dimension, rel=1e-9)
    # diagonal covariances: the sum over the dimensions, exact for a full grid of corners
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    scales, shift = np.array([[1, 2, 3], [2, 2, 7]]), np.array([1, 0, 2])
    distance = frechet_distance(corners * scales[0], corners * scales[1] + shift)
    expected = np.sqrt((shift**2).sum() + ((scales[0] - scales[1]) ** 2).sum())
    assert distance == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_agrees_with_matrix_roots_and_is_a_distance():
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) for n in (60, 80, 70))
    a, b = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    trace = np.trace(a + b - 2 * sqrtm(sqrtm(a) @ b @ sqrtm(a)).real)
    expected = np.sqrt(np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + trace)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert frechet_distance(x, z) <= frechet_distance(x, y) + frechet_distance(y, z)
    # fewer points than dimensions
    assert frechet_distance(x[:3], x[:3] + 2) == pytest.approx(2 * np.sqrt(5), rel=1e-6)


def test_discrepancy_agrees_with_a_double_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 2)), 1 + rng.normal(size=(5, 2))
    both = np.vstack([x, y])
    width = np.median(pdist(both))

    def mean(a, b):
        pairs = [(p, q) for p in a for q in b if p is not q]
        return np.mean([np.exp(-((p - q) ** 2).sum() / (2 * width**2)) for p, q in pairs])

    x, y = [*x], [*y]
    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    found = maximum_mean_discrepancy(both, [np.arange(12) < 7])
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_discrepancy_of_one_distribution_is_zero_on_average():
    rng = np.random.default_rng(0)
    half = np.arange(40) < 20
    found = [maximum_mean_discrepancy(rng.normal(size=(40, 3)), [half])[0] for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(200)
    assert min(found) < 0 < max(found)
    # unbiased: over all divisions of the same points the average is zero but for the order 1/n
    shifted = rng.normal(size=(40, 3)) + half[:, None]
    assert maximum_mean_discrepancy(shifted, [half])[0] > 10 * abs(np.mean(found))


def test_set_distances_of_halves_lie_among_the_random_ones():
    rng = np.random.default_rng(0)
    p = [
        set_distances(*(made(rng.normal(size=(30, 3))) for _ in range(2)), n_null=39)["p"]
        for _ in range(40)
    ]
    p = np.array(p)  # multiples of 1/40, uniform
    assert p.min() >= 1 / 40
    assert ((p <= 0.25).mean(axis=0) < 0.5).all()
    assert ((p <= 0.75).mean(axis=0) > 0.5).all()
    far = set_distances(
        made(rng.normal(size=(30, 3))), made(2 + rng.normal(size=(30, 3))), n_null=39
    )
    assert (far["p"] == 1 / 40).all()
    assert (far["value"] > far["null_high"]).all()
    assert (far["null"] < far["null_high"]).all()


def test_farthest_points_agree_with_the_greedy_rule():
    rng = np.random.default_rng(0)
    atoms = replace(made(rng.normal(size=(120, 3)), [4] * 30), kept=10 + 2 * np.arange(30))
    x = cumulant_features(atoms.features, atoms.n_atoms, ORDER)
    (x, _) = centred(x, x)
    chosen, radii = [int(np.linalg.norm(x, axis=1).argmin())], []
    while len(chosen) <= 12:
        nearest = cdist(x, x[chosen]).min(axis=1)
        radii.append(nearest.max())
        chosen.append(int(nearest.argmax()))
    found = farthest_points(atoms, 12)
    assert found["structure"].tolist() == atoms.kept[chosen[:12]].tolist()
    np.testing.assert_allclose(found["radius"], radii, rtol=1e-7)
    assert (np.diff(found["radius"]) <= 0).all()
    everything = farthest_points(atoms, 30)
    assert sorted(everything["structure"]) == atoms.kept.tolist()
    assert everything["radius"].iloc[-1] < 1e-7


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
def test_copies_of_a_crystal_are_duplicates(name, models, crystals):
    rng = np.random.default_rng(0)
    copies = [
        copy
        for atoms in crystals
        for copy in (
            rotated(atoms, rng),
            translated(atoms, rng),
            atoms[rng.permutation(len(atoms))],
            atoms.repeat((2, 1, 1)),
        )
    ]
    strained = [a.copy() for a in crystals]
    for atoms in strained:
        atoms.set_cell(atoms.cell.array * 1.05, scale_atoms=True)
    found = extract_features([*crystals, *copies, *strained], models[name], progress=False)
    originals, others = found.select(range(4)), found.select(range(4, 24))
    pairs = near_duplicates(originals, others)
    expected = {(i, 4 + 4 * i + j) for i in range(4) for j in range(4)}
    assert {*zip(pairs["first"], pairs["second"], strict=True)} == expected
    assert pairs["distance"].max() < 1e-4
    inside = near_duplicates(found.select(range(20)))
    assert (inside["first"] < inside["second"]).all()
    assert len(inside) == 4 * 10  # the pairs of five copies of each crystal
    assert len(near_duplicates(originals)) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Feature files of a few crystals, and of others with one copy among them."""
    folder = tmp_path_factory.mktemp("novelty")
    metals = [bulk(m, cubic=True) for m in ("Cu", "Al", "Ni", "Ag", "Au", "Pd", "Pt", "Fe")]
    salts = [bulk("NaCl", "rocksalt", a=5.64), bulk("MgO", "rocksalt", a=4.21), bulk("Cu")]
    for name, structures in {"metals": metals, "salts": salts}.items():
        write(folder / f"{name}.xyz", structures, format="extxyz")
        options = ["--structures", str(folder / f"{name}.xyz")]
        options += ["--output", str(folder / f"{name}.npz")]
        assert main(["extract", "--model", "mini-mace-mptrj", *options]) == 0
    return folder


def test_novelty_command(files, capsys):
    paths = [str(files / f"{name}.npz") for name in ("metals", "salts")]
    assert main(["novelty", *paths, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    known, new = map(Features.load, paths)
    found = novelty(known, new)
    assert sorted(row["structure"] for row in shown["scores"]) == [0, 1, 2]
    for row in shown["scores"]:
        assert row == {"structure": row["structure"], **found.loc[row["structure"]].to_dict()}
    assert shown["duplicates_within_new"] == []
    (pair,) = shown["duplicates_new_and_reference"]
    assert (pair["first"], pair["second"]) == (2, 0)
    assert {"versions", "commit"} <= set(shown["provenance"])
    assert list(shown["files_sha256"]) == paths
    assert main(["novelty", *paths]) == 0
    shown = capsys.readouterr().out
    assert all(column in shown for column in (*found, "duplicates_within_new"))


def test_select_command(files, capsys):
    path = str(files / "metals.npz")
    assert main(["select", path, "--n", "4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    found = farthest_points(Features.load(path), 4)
    assert shown["chosen"] == found.to_dict("records")
    assert list(shown["files_sha256"]) == [path]
    assert main(["select", path, "--n", "4"]) == 0
    assert "radius" in capsys.readouterr().out
    assert main(["select", path, "--n", "9"]) == 1
    assert "between 1 and the 8 structures" in capsys.readouterr().err


@pytest.mark.parametrize("call", [novelty_scores, near_duplicates, set_distances])
def test_features_of_two_kinds_are_refused(call, clouds):
    x, y = clouds
    known = made(x, model="a", layer="last")
    others = {
        "a last, 6 wide and a last, 3 wide": made(y[:, :3], model="a", layer="last"),
        "a last, 6 wide and b last, 6 wide": made(y, model="b", layer="last"),
        "a backbone, 6 wide and a last, 6 wide": made(y, model="a", layer="backbone"),
    }
    for message, other in others.items():
        with pytest.raises(InputError) as caught:
            call(known, other)
        words = str(caught.value)
        assert words.count(".") == 1
        assert "cannot be compared" in words
        for word in message.split(" and "):
            assert word.split(",")[0] in words
    with pytest.raises(InputError, match="holds no structure"):
        call(known, known.select([]))


def test_too_little_is_refused(clouds):
    x, _ = clouds
    few, alike = made(x[:4]), made(np.ones((9, 2)))
    with pytest.raises(InputError, match="4 structures or groups are fewer"):
        novelty(few, few)
    with pytest.raises(InputError, match="1 structures or groups are fewer"):
        novelty(made(x[:9]), few, groups=[0] * 9)
    with pytest.raises(InputError, match="do not vary"):
        novelty_scores(alike, alike)
    with pytest.raises(InputError, match="do not vary"):
        farthest_points(alike, 2)
    for n in (0, 5):
        with pytest.raises(InputError, match=f"n {n}"):
            farthest_points(few, n)
    with pytest.raises(InputError, match="two structures of each"):
        set_distances(made(x), made(x[:1]))
