"""The sentences of chapter 02, and what fills their numbers."""


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table of results to its data."""
    clouds = tables["clouds"].set_index(["source", "target"])
    to, back = clouds.xs("source", level=0), clouds.xs("source", level=1)
    assert (to.loc["turned", ["gfre", "lfre"]] < 1e-6).all()
    yield "errors of {:.2f}, the bent one {:.2f} and locally {:.2f}", 0, *to.loc["bent"][:2]
    yield (
        "a straight map misses {:.2f} of it. Maps of the neighbourhood miss {:.2f}",
        *to.loc["bent"][:2],
    )
    yield "for nothing, and {:.2f} is missing on the way back", back.loc["flat", "gfre"]
    yield "({:.2f}, and {:.2f} locally)", *back.loc["folded"][:2]
    buried, bent = back.loc["bent, buried"], back.loc["bent"]
    assert abs(buried["gfre"] - bent["gfre"]) < 0.01 and buried["lfre"] > 10 * bent["lfre"]
    yield "the local maps leave {:.2f}, where they left {:.2f} before", buried["lfre"], bent["lfre"]
    places = back.loc["four places"]
    assert abs(places["lfre"] - places["mean of the neighbours"]) < 0.005
    yield "the LFRE is {:.2f}, that of the mean of the same neighbours {:.2f}", *places[1:]
    unrelated = back.loc["unrelated"]
    assert unrelated["lfre"] > 1
    yield "leave {:.2f}", unrelated["lfre"]

    noise = tables["noise"].query("0.15 < noise < 0.17").set_index("cloud")["GFRE"]
    yield "costs the round cloud {:.2f}, the thin one {:.2f}", noise["round"], noise["thin"]

    example = tables["example"].set_index(["measure", "source"])
    error = example["error"]["GFRE"]
    yield (
        "leaves {:.2f} of the spread of Nequix, {:.0f} % of its variance",
        error["chgnet-0.3.0"],
        (100 * error["chgnet-0.3.0"] ** 2),
    )
    yield (
        "the bare element leaves {:.2f} and the untrained twin {:.2f}",
        (error["element"]),
        error["chgnet-untrained-s0"],
    )
    local = example.loc["LFRE"]
    assert (local["error"] < local["neighbours"]).all()
    yield (
        "Locally it leaves {:.2f}, the mean of its neighbours {:.2f}",
        (local.loc["chgnet-0.3.0", "error"]),
        local.loc["chgnet-0.3.0", "neighbours"],
    )
    inner = example["error"]["GFRE within elements"]
    yield (
        "CHGNet still leaves {:.2f}, symmetry functions {:.2f} and the untrained twin {:.2f}",
        (inner["chgnet-0.3.0"]),
        inner["symmetry-functions"],
        inner["chgnet-untrained-s0"],
    )
    ratios = tables["ratios"].set_index(["measure", "baseline"])
    assert (ratios["high"] < 1).all()
    closest = ratios.loc[("GFRE", "symmetry-functions")]
    assert closest["value"] == ratios["value"].max()
    yield (
        "symmetry functions come closest, with a ratio of {:.2f} [{:.2f}, {:.2f}]",
        *(closest[["value", "low", "high"]]),
    )

    splits = tables["splits"].groupby(["held_out", "metric"])["error"].median()
    atoms, mild, strict = (
        splits[f"{way}"]["lfre"]
        for way in (
            "atom, folds by atom",
            "structure, folds by atom",
            "structure, folds by structure",
        )
    )
    yield (
        "Locally it flatters by much: {:.2f} where siblings may help, {:.2f} where they may not",
        (atoms),
        strict,
    )
    yield "With folds by atom the local error of the same crystals is {:.2f}", mild
    gfre = splits.xs("gfre", level="metric")
    yield "the GFRE hardly notices: {:.2f} to {:.2f}", gfre.min(), gfre.max()
