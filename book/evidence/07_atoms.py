"""The sentences of chapter 07, and what fills their numbers."""


def sentences(tables):
    """Yield each sentence with gaps, and its numbers."""
    elements = tables["elements"].set_index("element")
    groups = tables["groups"].set_index(["aspect", "source", "level"]).sort_index()
    networks = groups.xs("networks", level="source")
    share = networks.share
    assert len(elements) == 81
    assert elements.high.max() < 1
    yield (
        "one network misses {:.2f} of what sets the atoms of an element apart",
        share["all", "all atoms"],
    )
    low, high = (elements.share[["Pr", "Gd", "Nd"]].agg(end) for end in ("min", "max"))
    assert elements.share.nsmallest(3).max() == high
    assert elements.share.idxmax() == "Pu"
    yield (
        "with {:.2f} to {:.2f}; hydrogen stands at {:.2f} and plutonium at {:.2f}.",
        low,
        high,
        *elements.share[["H", "Pu"]],
    )
    yield "In none of the {} elements does the interval reach 1", len(elements)

    ranks = tables["ranks"].set_index(["quantity", "grows with"])
    here = ranks.xs("atoms", level="grows with")
    assert here.high["error"] < 0
    assert here.high["error of the bare element"] < 0
    assert here.low["share"] < 0 < here.high["share"]
    yield "the rank correlation is {:.2f}.", here["rank"]["error"]
    yield "exactly the same ({:.2f})", here["rank"]["error of the bare element"]
    yield (
        "number of atoms: {:.2f}, with an interval from {:.2f} to {:.2f}.",
        *here.loc["share", ["rank", "low", "high"]],
    )
    seen = ranks.loc[("share", "structures of MPtrj")]
    assert seen.low > 0
    yield "is positive, from {:.2f} to {:.2f}.", seen.low, seen.high

    kinds, blocks, near = (share[a] for a in ("kind", "block", "neighbours"))
    rest = kinds.drop(["lanthanides", "halogens", "hydrogen"])
    ends = kinds["lanthanides"], kinds["halogens"]
    yield "The lanthanides stand at {:.2f}, the halogens at {:.2f}, and", *ends
    yield "nearly everything else between {:.2f} and {:.2f}.", rest.min(), rest.max()
    assert blocks.idxmin() == "f block"
    assert near.idxmin() == "12 or more"
    yield "it is the f block that is easy, with {:.2f}.", blocks["f block"]
    assert networks.low["neighbours", "6"] > networks.high["neighbours", "12 or more"]
    yield "are seen best ({:.2f}), those with six badly ({:.2f}).", near["12 or more"], near["6"]
    metals = networks.loc["neighbours of transition metals"]
    assert metals.low["6"] > metals.high["12 or more"]
    alone = metals.share[["12 or more", "6"]]
    yield "among transition metals alone it is {:.2f} and {:.2f}.", *alone
    untrained = groups.share["all"].unstack("source").loc["all atoms"]
    yield (
        "The symmetry functions miss {:.2f} of it, a CHGNet with random weights {:.2f}.",
        untrained["symmetry-functions"],
        untrained["chgnet-untrained-s0"],
    )
    nothing = groups.loc[
        ("kind", ["symmetry-functions", "chgnet-untrained-s0"], ["hydrogen", "halogens"]), :
    ]
    assert (nothing.share > 1).all()

    places = tables["places"].set_index("relative distance")
    usual, far, squeezed = (places.loc[p] for p in ("0.95 to 1.05", "above 1.4", "below 0.7"))
    assert far.high < usual.low
    assert squeezed.low < usual.high
    yield "is more than {:.1f} times as far as usual, the error is {:.2f}", 1.4, far.error
    yield "instead of {:.2f}; squeezed below {:.1f} it is {:.2f}.", usual.error, 0.7, squeezed.error
    yield "lonely atoms, from {:.2f} to {:.2f};", usual.share, far.share
    yield "for the most squeezed, at {:.2f} to {:.2f}, there", squeezed.low, squeezed.high

    worst = tables["worst"]
    assert [*worst.formula[[0, 4, 5]]] == ["NiTeW3", "BrPtW3", "LiNaZr3"]
    yield "Tellurium in NiTeW₃, with an error of {:.2f}", worst.error[0]
    yield "misses as much of them ({:.2f} of the tellurium).", worst["error of the bare element"][0]
    first = tables["viewed"].iloc[0]
    assert first.formula == "O8"
    assert first.error > worst.error.max()
    yield (
        "the nearest neighbour stands at {:.2f} Å. With an error of {:.2f}",
        first.distance,
        first.error,
    )

    single = tables["single"].set_index(["dataset", "target"]).loc["embedded-third"]
    heavy, others = single.loc["7net-l3i5"], single.drop("7net-l3i5")
    assert heavy.structure == first.structure
    yield "carry {:.2f} of the variance", heavy["its share"]
    yield (
        "is {:.2f} with the farthest hundredth of its atoms and {:.2f} without",
        heavy["error"],
        heavy["error without them"],
    )
    moved = (others["error"] - others["error without them"]).abs().max()
    held = others["share of the variance"]
    yield (
        "carries between {:.2f} and {:.2f}, and the error moves by {:.2f} at most.",
        held.min(),
        held.max(),
        moved,
    )

    agree = tables["agreement"].set_index("index")
    errors, shares, both = (agree[c] for c in agree)
    yield "is {:.2f} in the median, and never below {:.2f}.", errors["50%"], errors["min"]
    yield "for the shares it is {:.2f}.", shares["50%"]
    yield (
        "{:.2f} are in the twentieth of the way back, where chance would give {:.2f}.",
        both["50%"],
        1 / 20,
    )

    robust = tables["robust"].set_index("run")
    assert (robust.lanthanides < robust["all atoms"]).all()
    assert (robust.hydrogen > robust["all atoms"]).all()
    runs = robust["all atoms"]
    yield "the share over all atoms is smaller, {:.2f};", runs["last layer"]
    yield "with maps from half of the structures it is {:.2f}", runs["half of the structures"]
    yield "on the embedded structures {:.2f}.", runs["embedded-third"]
