"""The sentences of chapter 01, and what fills their numbers."""


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table of results to its data."""
    atoms = tables["map"]
    first = atoms.groupby("formula")["x"].mean()
    oxides, rest = ["Al4O6", "O8Si4"], ["C2Ca2O6", "C2H4O2", "CH2O", "NO", "H2O2", "O3", "O8"]
    assert first[[*oxides, *rest]].is_monotonic_increasing
    yield "with {:.0f} % of the variance", 100 * atoms["share"].iloc[0]
    yield "of {} atoms in {} structures far fewer", len(atoms), atoms["structure"].nunique()
    moved = tables["invariance"].drop(columns="index")
    assert (moved < 10e-6).all(axis=None)
    yield "Both networks stay below {} millionths", 10

    table = tables["properties"]
    untrained = table["model"].str.contains("untrained")
    families = table["model"].str.split("-").str[0]
    backbone = table[table["layer"] == "backbone"].assign(family=families, untrained=untrained)
    trained = backbone[~backbone["untrained"]].set_index("model")
    twins = backbone[backbone["untrained"]].set_index("family")
    least, most = trained["dimension"].idxmin(), trained["dimension"].idxmax()
    assert least.startswith("tensornet") and most == "chgnet-0.2.0"
    low, high = trained["dimension"].min(), trained["dimension"].max()
    yield "have effective dimensions from {:.1f} (a TensorNet) to {:.1f} (CHGNet 0.2.0)", low, high
    yield "trained backbones lie between {:.0f} and {:.0f}", low, high
    yield "untrained networks from {:.0f} to {:.0f}", *twins["dimension"].agg(["min", "max"])
    yield "few of their directions, {:.1f} to {:.1f} of 64 to 128", low, high
    assert trained["width"].between(64, 128).all()
    paired = trained[trained["family"].isin(twins.index)]
    assert (paired["dimension"] < paired["family"].map(twins["dimension"])).all()
    yield "each of the {} that have an untrained twin lies below it", len(paired)

    last = table[(table["layer"] == "last") & ~untrained].set_index("model")["dimension"]
    narrow = last[last.index.str.contains("^7net|^tensornet|^m3gnet-matpes")]
    assert sum(narrow.index.str.startswith("7net")) == 5
    yield "on MatPES lie between {:.1f} and {:.1f}", narrow.min(), narrow.max()

    share = trained["element share"]
    yield "the element explains between {:.2f} and {:.2f} of the variance", share.min(), share.max()
    yield "The element explains {:.2f} to {:.2f} of a trained backbone", share.min(), share.max()
    yield "trained networks between {:.2f} and {:.2f}", share.min(), share.max()
    tensornet, others = twins.loc["tensornet"], twins.drop("tensornet")
    rest = paired[paired["family"] != "tensornet"]
    assert (rest["element share"] < rest["family"].map(twins["element share"])).all()
    yield "({:.2f} and more), and all {} of their", others["element share"].min(), len(rest)
    yield "the element explains {:.2f}, and all four", tensornet["element share"]
    yield "near 1, but for TensorNet at {:.2f}", tensornet["element share"]
    above = paired[paired["family"] == "tensornet"]["element share"]
    assert len(above) == 4 and (above > tensornet["element share"]).all()

    depth = tables["depth"].set_index(["model", "layer"])
    chgnet, mace = depth.loc["chgnet-0.3.0"], depth.loc["mini-mace-mptrj"]
    assert (chgnet["lost"].iloc[1:4] < chgnet["added"].iloc[1:4]).all()
    yield (
        "to {:.2f} after the fourth, and the way back is always easier, {:.2f}",
        *chgnet.loc["4"][:2],
    )
    yield (
        "first and second interaction miss {:.2f} of each other, both ways",
        mace.loc["2", "added"],
    )
    assert abs(mace.loc["2", "added"] - mace.loc["2", "lost"]) < 0.01
    yield "knew ({:.2f})", chgnet.loc["last", "lost"]

    steps = tables["steps"].set_index(["what", "model"])
    added, lost = steps.loc["added"], steps.loc["lost"]
    for name in ("chgnet-0.3.0", "tensornet-matpes-pbe"):
        assert lost.loc[name, "error"] < added.loc[name, "error"]
    for name in ("7net-0", "nequix-mp-1"):
        assert lost.loc[name, "error"] > added.loc[name, "error"]
    errors = [way.loc[name, "error"] for way in (lost, added) for name in ("7net-0", "nequix-mp-1")]
    yield "the error is {:.2f} and {:.2f}, on the way there {:.2f} and {:.2f}", *errors

    readout = tables["readout"].set_index(["way", "model"])
    there, back = readout.loc["backbone to last"], readout.loc["last to backbone"]
    models = [
        n for n in there.index if "untrained" not in n and max(there.error[n], back.error[n]) > 1e-3
    ]
    there, back = there.loc[models], back.loc[models]
    worse, clear = back["error"] > there["error"], back["low"] > there["high"]
    yield (
        "Of {} checkpoints whose layers differ, {} lose more on the way back than on the way there, "
        "beyond the intervals in {}",
        len(models), worse.sum(), clear.sum(),
    )  # fmt: skip
    chgnet = back.loc[back.index.str.startswith("chgnet"), "error"]
    sevennet = back.index.str.startswith("7net")
    assert chgnet.max() == back["error"].max() and (there.loc[sevennet, "error"] < 1e-3).all()
    yield "missed by {:.2f} to {:.2f}", chgnet.min(), chgnet.max()
    yield "the worst, {:.2f} to {:.2f}", chgnet.min(), chgnet.max()
    yield "to between {:.2f} and {:.2f}", *back.loc[sevennet, "error"].agg(["min", "max"])
    untrained = readout.loc["last to backbone"].filter(like="untrained", axis=0)["error"]
    untrained.index = untrained.index.str.split("-").str[0]
    twin = back.index.str.split("-").str[0].map(untrained)
    assert (back["error"] > twin)[twin.notna()].all()
    yield "All {} that have an untrained twin lose more than it does", twin.notna().sum()
