"""Files of features: what is read back, what is refused, and what does not belong together."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from umlip_latents import Features, compare, load_structures
from umlip_latents.analysis.novelty import novelty
from umlip_latents.analysis.selection import near_duplicates
from umlip_latents.features.cumulants import structure_features
from umlip_latents.features.table import common_structures
from umlip_latents.resources import InputError

RNG = np.random.default_rng(0)
GOOD = Features(
    RNG.normal(size=(12, 3)),
    np.full(6, 2),
    np.full(12, 14),
    np.array([0, 1, 2, 4, 5, 9]),
    {3: "too large"},
    model="m",
    layer="last",
    fingerprint="f" * 64,
    structures="s" * 64,
)
HELD = {name: value for name, value in vars(GOOD).items() if name != "dropped"}


def test_a_file_holds_everything(tmp_path):
    GOOD.save(tmp_path / "f.npz")
    again = Features.load(tmp_path / "f.npz")
    assert again.origin == f"file {tmp_path / 'f.npz'}"
    for name, value in vars(replace(again, origin="")).items():
        assert np.array_equal(getattr(GOOD, name), value), name
        assert type(getattr(GOOD, name)) is type(value), name


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"features": np.full((12, 3), np.nan)}, "not a table of finite numbers"),
        ({"features": np.zeros((11, 3))}, "n_atoms does not add up"),
        ({"n_atoms": np.full(6, 2.0)}, "not lists of whole numbers"),
        ({"n_atoms": np.array([2**63 - 1, 2**63 - 1, 2, 4, 4, 4])}, "n_atoms does not add up"),
        ({"n_atoms": np.full(4, 3)}, "kept does not count upwards"),
        ({"numbers": np.full(12, 119)}, "numbers does not give every row"),
        ({"kept": np.array([0, 1, 9, 4, 5, 6], np.uint8)}, "kept does not count upwards"),
        ({"fingerprint": None}, "fingerprint is not a file in the archive"),
        ({"kept": np.array([None] * 6)}, "is not a file of extracted features"),
    ],
)
def test_files_that_cannot_be_features_are_refused_in_a_sentence(tmp_path, changed, why):
    path = tmp_path / "odd.npz"
    arrays = {name: value for name, value in (HELD | changed).items() if value is not None}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=rf"odd\.npz: .*{why}"):
        Features.load(path)


def test_other_files_are_refused_in_a_sentence(tmp_path):
    GOOD.save(tmp_path / "torn.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "torn.npz").read_bytes()[:-3])
    with open(tmp_path / "array.npz", "wb") as stream:
        np.save(stream, np.zeros((3, 2)))
    words = {"torn": "it is no NPZ", "array": "it is no NPZ", "gone": "No such file"}
    for name, why in words.items():
        with pytest.raises(InputError, match=rf"{name}\.npz: .*{why}"):
            Features.load(tmp_path / f"{name}.npz")
    with pytest.raises(InputError, match="Is a directory"):
        Features.load(tmp_path)


def test_tables_and_structures_hold_the_features_of_the_kept(tmp_path, crystals):
    """And labels; a row that describes a structure has neither atom nor element."""
    crystals = [atoms.copy() for atoms in crystals]
    crystals[2].calc = SinglePointCalculator(crystals[2], energy=-1.5)
    x = np.random.default_rng(0).normal(size=(13, 2)).astype(np.float32)
    numbers = np.concatenate([crystals[0].numbers, crystals[2].numbers])
    found = Features(x, np.array([8, 5]), numbers, np.array([0, 2]), {1: "no", 3: "no"})
    found.save(tmp_path / "f.csv")
    table = pd.read_csv(tmp_path / "f.csv", index_col=["structure", "atom"])
    assert table.index.tolist() == [(0, i) for i in range(8)] + [(2, i) for i in range(5)]
    assert table["element"].tolist() == [*crystals[0].symbols, *crystals[2].symbols]
    assert np.array_equal(table[["feature_0", "feature_1"]].to_numpy(np.float32), x)
    pooled = structure_features(found, 1)
    assert pooled.to_frame().index.tolist() == [0, 2]
    assert np.array_equal(pooled.to_frame(), pooled.features)
    found.save(tmp_path / "f.extxyz", crystals)
    read = load_structures(tmp_path / "f.extxyz")
    assert np.concatenate([a.arrays["features"] for a in read]) == pytest.approx(x, abs=1e-8)
    assert [read[1].get_potential_energy(), *read[1].numbers] == [-1.5, *crystals[2].numbers]
    for other in (crystals[:2], crystals[::-1], ()):
        with pytest.raises(InputError, match="its features are those of other structures"):
            found.save(tmp_path / "g.extxyz", other)
    assert not list(tmp_path.glob("*g.extxyz*"))


def test_features_of_other_structures_are_not_compared():
    other = replace(GOOD, structures="t" * 64, model="n", fingerprint="g" * 64)
    with pytest.raises(InputError, match="m and n: do not describe the same structures"):
        common_structures([GOOD, other])
    with pytest.raises(InputError, match="do not describe the same structures"):
        compare({"one": GOOD, "other": other})
    for known in (replace(other, structures=GOOD.structures), replace(other, structures="")):
        assert len(common_structures([GOOD, known])) == 2
    part = GOOD.select(np.array([1, 4]))
    assert part.structures == GOOD.structures


def test_novelty_wants_one_model_and_layer():
    other = replace(GOOD, structures="t" * 64)
    assert len(novelty(GOOD, other)) == 6
    for changed, why in (
        ({"fingerprint": "g" * 64}, "m last .* are not of one model"),
        ({"model": "n"}, "m last .* and n last"),
        ({"layer": "backbone"}, "m backbone .* and m last"),
    ):
        for judge in (novelty, near_duplicates):
            with pytest.raises(InputError, match=why):
                judge(GOOD, replace(other, **changed))
    assert len(novelty(GOOD, replace(other, fingerprint=""))) == 6


def test_models_that_share_no_structure_are_told():
    def of(kept):
        return Features(np.zeros((1, 1)), np.ones(1, int), np.ones(1, int), np.array([kept]))

    with pytest.raises(InputError, match="No structure is accepted by every compared model"):
        common_structures([of(0), of(1)])
