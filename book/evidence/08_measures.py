"""The sentences of chapter 08, and what fills their numbers."""

import numpy as np
import pandas as pd

from umlip_latents.measures.comparison import estimate

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
    assert len(near) == 9 and near["shared weights"].lt(others.min(axis=1)).all()
    yield "at {:.2f} by the GFRE and {:.2f} by CKA", *near.loc[["GFRE", "CKA"], "shared weights"]
    kin = near[["same family", "another family"]].loc[["GFRE", "CKA"]]
    assert (near["same family"] < near["another family"]).all()
    yield "of one family come next, at {:.2f} and {:.2f}", *kin["same family"]
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
    assert len(element) == 9 and {*tied.index} == {"GFRE", "SVCCA", "CKNNA"}
    assert not element.eq("farther").any()
    yield "are nearer by {} of 9 measures", element.eq("nearer").sum()
    assert {*descriptor.index[descriptor == "farther"]} == {"GFRE"}
    yield "they are nearer by {} and farther by one", descriptor.eq("nearer").sum()
    soap = verdict["all atoms", "soap"]
    assert {*soap.index[soap != "nearer"]} == {"SVCCA"}
    inner = verdict["within elements"]
    assert inner.eq("nearer").all()
    yield "The {} measures that were asked within", "five"
    assert inner.index.get_level_values("level").nunique() == 5

    yield from of_grounding(tables.full("08_measures-grounding"))

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

    yield from of_stitching(tables.full("08_measures-stitching").query("source != target"))


def of_grounding(grounding):
    """The sentences on which measure gets known orders right."""
    share = grounding.pivot(index="measure", columns="test", values="share")
    low = grounding.pivot(index="measure", columns="test", values="low")
    ends = grounding.set_index(["measure", "test"])[["share", "low", "high"]]
    assert share.shape == (14, 8)
    yield (
        "puts at least {:.2f} of the levels of noise and {:.2f} of the relatives in order",
        *share[["noise", "shared weights"]].min(),
    )
    depth = share["depth"].round(2)
    assert {*depth.index[depth == 1]} == {"cka-rbf", "relative_representations"}
    yield "{:.2f} by the GFRE, {:.2f} by LFRE and PWCCA", *depth[["gfre", "lfre"]]
    assert depth["pwcca"] == depth["lfre"] == depth.min()
    epochs = share["epochs"].round(2)
    near = ["overlap", "cknna", "jaccard", "imbalance"]
    assert {*epochs.index[epochs < 1]} == {*near, "svcca"}
    yield "The information imbalance is right in {:.2f}", epochs["imbalance"]
    again = share["another training"]
    chance = low["another training"] <= 0.5
    assert {"gfre", "lfre", "kernel", "pwcca"} <= {*again.index[chance]}
    assert again.idxmax() == "rsa"
    yield (
        "RSA in {:.2f} of the comparisons, Procrustes distance in {:.2f}, CKA in {:.2f}",
        *again[["rsa", "procrustes", "cka"]],
    )
    yield "The GFRE ({:.2f}) and the kernel error ({:.2f})", *again[["gfre", "kernel"]]
    yield "PWCCA ({:.2f}) does worse than that", again["pwcca"]
    assert ends.loc[("pwcca", "another training"), "high"] < 0.5
    data = share["other data"]
    assert data.idxmax() == "gfre"
    yield "the GFRE is right in {:.2f} [{:.2f}, {:.2f}]", *ends.loc[("gfre", "other data")]
    assert low.loc["cka", "other data"] < 0.5
    yield "CKA in {:.2f} [{:.2f}, {:.2f}]", *ends.loc[("cka", "other data")]
    energies = share["energies"]
    best = energies.idxmax()
    assert best == "rsa" and energies.drop("pwcca").min() > 0.5
    yield "the best, RSA, is right in {:.2f} [{:.2f}, {:.2f}]", *ends.loc[(best, "energies")]
    cost = share["stitching"].sort_values(ascending=False)
    assert [*cost.index[:3]] == ["gfre", "kernel", "imbalance"]
    yield (
        "the GFRE foretells best, {:.2f} [{:.2f}, {:.2f}], and it is fitted by the same map; "
        "of those that fit none the information imbalance is first, at {:.2f}",
        *ends.loc[("gfre", "stitching")],
        cost.iloc[2],
    )


def of_stitching(stitched):
    """The sentences on what an error costs in energy."""
    backbone, costs = stitched.query("layer == 'backbone'"), stitched.query("layer == 'last'")
    means = costs.groupby("kin")[
        ["gfre", "error", "error_median", "shifted", "own", "spread"]
    ].mean()
    far, element = means.loc["another family"], means.loc["element"]
    apart = costs[costs["kin"] == "another family"].set_index("target", drop=False)
    floor = costs[costs["kin"] == "element"].set_index("target").add_suffix(" of element")
    apart = apart.join(floor).reset_index(drop=True)
    networks = costs[~costs["kin"].isin(STRANGERS[1:]) & (costs["kin"] != "untrained twin")]
    assert (networks["source"].nunique(), networks["target"].nunique()) == (26, 24)
    yield (
        "Between families, {} pairs with a GFRE of {:.2f} on average, stitching costs {:.0f} meV per "
        "atom, half of the structures less than {:.0f}",
        len(apart),
        *far[["gfre", "error", "error_median"]],
    )
    yield (
        "The bare element, at {:.2f}, costs {:.0f}, symmetry functions {:.0f}, untrained twins {:.0f}",
        *element[["gfre", "error"]],
        *means.loc[["symmetry-functions", "untrained twin"], "error"],
    )
    yield (
        "The GFRE of networks is {:.2f} [{:.2f}, {:.2f}] of the element's, the cost {:.2f} "
        "[{:.2f}, {:.2f}]",
        *over_networks(lambda t: t["gfre"].mean() / t["gfre of element"].mean(), apart),
        *over_networks(lambda t: t["error"].mean() / t["error of element"].mean(), apart),
    )
    better = {k: (apart[k] < apart[f"{k} of element"]).sum() for k in ("error", "gfre", "shifted")}
    yield (
        "the better source in {} of the {} pairs, by the GFRE in {}",
        *(better["error"], len(apart), better["gfre"]),
    )
    assert better["shifted"] == len(apart)
    yield "the cost is {:.0f}", backbone[backbone["kin"] == "another family"]["error"].mean()
    yield (
        "the networks are at {:.0f}, the spread that composition leaves at {:.0f}, symmetry functions "
        "at {:.0f}",
        *(far["shifted"], far["spread"], means.loc["symmetry-functions", "shifted"]),
    )
    yield "shifted in the same way, differ by {:.0f}", far["own"]
    order = over_networks(lambda t: t[["gfre", "error"]].corr("spearman").iloc[0, 1], networks)
    yield (
        "Over all {} pairs of networks the two correlate at {:.2f} [{:.2f}, {:.2f}]",
        len(networks),
        *order,
    )
    kin = ["shared weights", "another training", "same family"]
    yield (
        "Shared weights cost {:.0f}, the two trainings of M3GNet {:.0f}; a family trained apart costs {:.0f}",
        *means.loc[kin, "error"],
    )

    pairs, read = costs.set_index(["source", "target"]), costs.groupby("target")["read"].first()
    yield "in 7net-0, {:.2f} of its variance lies along the readout", read["7net-0"]
    cheap = pairs.loc[("7net-0", "nequix-mp-1-pft")]
    yield (
        "it misses {:.2f}, for {:.0f} meV only, since that readout follows {:.2f} of the variance",
        *cheap[["gfre", "error", "read"]],
    )
    other = pairs.loc[("7net-0_22May2024", "m3gnet-mp-2021")]
    yield "from SevenNet onto M3GNet ({:.2f}, {:.0f} meV)", *other[["gfre", "error"]]
    dear = pairs.loc[("nequix-mp-1-pft-nocotrain", "tensornet-matpes-pbe")]
    saved = dear["error"] - dear["shifted"]
    yield (
        "{:.2f} from Nequix costs {:.0f} meV, of which shifts of the elements take away {:.0f}",
        *dear[["gfre", "error"]],
        saved,
    )
    yield (
        "a network of another family costs {:.0f} meV per atom, the bare element {:.0f}",
        far["error"],
        element["error"],
    )


def over_networks(statistic, pairs, n_draws=200):
    """A number, and its 95 % interval over drawn checkpoints."""
    rng, drawn = np.random.default_rng(0), [pairs]
    names = sorted({*pairs["source"], *pairs["target"]})
    for _ in range(n_draws):
        counts = pd.Series(rng.choice(names, len(names))).value_counts()
        times = pairs["source"].map(counts).fillna(0) * pairs["target"].map(counts).fillna(0)
        drawn.append(pairs.loc[pairs.index.repeat(times)])
    return estimate(np.array([statistic(each) for each in drawn]))
