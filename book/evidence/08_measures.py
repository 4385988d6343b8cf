"""The sentences of chapter 08, and what fills their numbers."""

STRANGERS = ["chgnet-untrained-s0", "symmetry-functions", "soap", "element"]


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table of results to its data."""
    seen = tables["changes"].set_index("measure")
    assert seen.loc["GFRE", "weak direction x 30"] < 0.01
    yield "while CKA puts it at {:.2f}", seen.loc["CKA", "weak direction x 30"]
    yield "bending (CKA {:.2f}, GFRE {:.2f})", seen.loc["CKA", "bent"], seen.loc["GFRE", "bent"]
    far = seen["1 % of atoms x 20"]
    yield (
        "(overlap {:.2f}), which ruin the GFRE ({:.2f}) and CKA ({:.2f})",
        *(far[["neighbour overlap", "GFRE", "CKA"]]),
    )
    assert seen["bent"].idxmin() == "information imbalance"
    yield "the calmest of all, {:.2f} for bent features", seen["bent"].min()
    shuffled = seen["shuffled"]
    assert round(shuffled["SVCCA"], 2) == round(shuffled["PWCCA"], 2)
    assert shuffled.nsmallest(2).index.isin(["SVCCA", "PWCCA"]).all()
    yield "after a shuffle they stand at {:.2f} instead of 1", shuffled["SVCCA"]
    yield "that were only turned keep {:.2f}", seen.loc["LFRE", "turned"]

    near = tables["near"].set_index("measure")
    others = near[["same family", "another family", *STRANGERS]]
    assert len(near) == 10 and near["shared weights"].lt(others.min(axis=1)).all()
    yield "at {:.2f} by the GFRE and {:.2f} by CKA", *near.loc[["GFRE", "CKA"], "shared weights"]
    kin = near[["same family", "another family"]].loc[["GFRE", "CKA"]]
    assert (near["same family"] < near["another family"]).drop("PWCCA").all()
    assert abs(near.loc["PWCCA", "same family"] - near.loc["PWCCA", "another family"]) < 0.01
    yield "by all but PWCCA, at {:.2f} and {:.2f}", *kin["same family"]
    yield "of different families later, at {:.2f} and {:.2f}", *kin["another family"]
    functions = ["symmetry-functions", "another family"]
    yield "by the GFRE ({:.2f} against {:.2f})", *near.loc["GFRE", functions]
    assert near.loc["neighbour overlap"].idxmax() == "symmetry-functions"
    yield (
        "by the overlap of neighbours ({:.2f} against {:.2f})",
        *(near.loc["neighbour overlap", functions]),
    )

    ratios = tables["ratios"].set_index(["aspect", "direction", "level"]).sort_index()
    verdict = ratios["verdict"]
    assert verdict.eq("nearer").eq(ratios["ratio_low"] > 1).all()
    element, descriptor = (verdict["all atoms", name] for name in ("element", "symmetry-functions"))
    tied = element[element == "no measurable difference"]
    assert len(element) == 10 and {*tied.index} == {"GFRE", "SVCCA", "CKNNA"}
    assert not element.eq("farther").any()
    yield "are nearer by {} of 10 measures", element.eq("nearer").sum()
    assert {*descriptor.index[descriptor == "farther"]} == {"GFRE", "PWCCA"}
    yield "they are nearer by {} and farther by two", descriptor.eq("nearer").sum()
    soap = verdict["all atoms", "soap"]
    assert {*soap.index[soap != "nearer"]} == {"SVCCA", "PWCCA"}
    inner = verdict["within elements"]
    assert inner.eq("nearer").all()
    yield "The {} measures that were asked within", "five"
    assert inner.index.get_level_values("level").nunique() == 5

    ranks = tables["agreement"].set_index("measure")
    variance, neighbours = (
        ranks.loc[kind, kind].min(axis=None)
        for kind in (
            ["CKA", "RBF CKA", "Procrustes distance"],
            ["neighbour overlap", "CKNNA", "information imbalance"],
        )
    )
    maps = ranks.loc["GFRE", "LFRE"]
    yield (
        "the two maps at {:.2f}, variance at {:.2f} or more, neighbours at {:.2f} or more",
        maps,
        variance,
        neighbours,
    )
    yield (
        "GFRE and CKA correlate at {:.2f}, and PWCCA with CKA not at all ({:.2f})",
        (ranks.loc["GFRE", "CKA"]),
        ranks.loc["PWCCA", "CKA"],
    )
    energies = ranks["energies"].drop("energies")
    assert energies.idxmax() == "GFRE"
    others = energies.drop("GFRE").max()
    yield (
        "the GFRE follows them best, at {:.2f}, all others at {:.2f} or less",
        energies.max(),
        others,
    )

    missed = tables["energies"].set_index("model")["error"]
    assert missed.idxmin() == "nequix-omat-1"
    yield "with {:.0f} meV per atom", missed.min()
    links = tables["links"].set_index(["networks", "measure"]).loc["other families"]
    gfre, cka = links.loc["GFRE"], links.loc["CKA"]
    assert not (links["low"] > 0).any()
    numbers = ["correlation", "low", "high"]
    yield (
        "Among the {:.0f} networks of other families the correlation of distance and error is "
        "{:.2f} [{:.2f}, {:.2f}] by the GFRE and {:.2f} [{:.2f}, {:.2f}] by CKA",
        gfre["n"],
        *gfre[numbers],
        *cka[numbers],
    )
