"""The sentences of chapter 09, and what fills their numbers."""


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table's name to its DataFrame."""
    steps = tables["steps"].pivot(index="cumulant", columns="model", values="gfre")
    networks = steps.drop(columns="element")
    second = networks.loc[2].min(), networks.loc[2].max()
    yield (
        "From the means of the five networks the second cumulant is rebuilt with an error between "
        "{:.2f} and {:.2f}.",
        *second,
    )
    yield (
        "The fifth is nearly known before it is computed, with {:.2f} to {:.2f}",
        networks.loc[5].min(),
        networks.loc[5].max(),
    )
    assert (networks.loc[[4, 6, 8]].min() > networks.loc[[5, 7]].max()).all()
    yield "the mean leaves {:.2f}: new to a straight map", steps.loc[2, "element"]

    zero = tables["vanishing"].set_index("atoms")
    beyond = zero[[str(n) for n in range(2, 9)]].mean(axis=1)
    assert beyond[1] == 1
    yield (
        "of two atoms' cumulants beyond the mean a share of {:.2f} is zero for CHGNet; "
        "with five atoms or more it is {:.2f}.",
        beyond[2],
        beyond[5],
    )

    between = tables["between"].pivot(index="source", columns="of", values="value")
    ours, element = between.loc["another network"], between.loc["element"]
    yield (
        "From one network to another the error falls from {:.2f} for atoms to {:.2f} for means, "
        "but so it does from the bare element ({:.2f} to {:.2f})",
        *ours[["atoms", "mean"]],
        *element[["atoms", "mean"]],
    )
    assert (between["mean"] < between["atoms"]).all()
    assert (between["2 cumulants"] > between["mean"]).all()
    orders = tables.full("02_cumulants-models").query("order == 8")
    followed = {*orders["source"]} - {"chgnet-untrained-s0", "element"}
    orders = orders[orders["target"].isin(followed)]
    assert len(followed) == 4
    yield (
        "the error between networks rises on to {:.2f} with eight cumulants, and that from the "
        "bare element to {:.2f}",
        orders[orders["source"].isin(followed)]["error"].mean(),
        orders.query("source == 'element'")["error"].mean(),
    )
    facts = tables["facts"].set_index("quantity")["median"]
    yield "half of them have a mean force below {:.3f} eV/Å.", facts["force"]
    long_run = tables.full("14_features_at_work-errors").query("weights == 'damped'")
    means = long_run.query("pooling == 'the mean'").set_index(
        ["dataset", "held_out", "source", "quantity"]
    )
    means = means.sort_index()
    there = means.loc["alexandria-random-1k", "another material", "networks"]["ratio"]
    yield (
        "tried nevertheless and left {:.2f} of the composition's error for the force and {:.2f} for the pressure",
        there["force"],
        there["pressure"],
    )

    whole = tables["predictions"]
    table = whole.query("against == 'composition'")
    ratio = table.pivot(index="source", columns="target", values="ratio")
    mae = table.pivot(index="source", columns="target", values="mae")["energy"]
    trained = tables["worth"].set_index("source")
    assert len(trained) == 26
    assert trained["family"].nunique() == 7
    yield (
        "Knowing the composition leaves {:.2f} eV per atom; the mean of CHGNet's features takes "
        "that down to {:.2f}.",
        mae["composition"],
        mae["chgnet-0.3.0"],
    )
    ahead = whole.query("against == 'symmetry-functions' and source in @trained.index")
    assert (ahead.query("target == 'energy'")["high"] < 1).all()
    assert (ahead.query("target == 'volume'")["low"] > 1).all()
    assert ratio.loc["soap", "energy"] > ratio.loc["symmetry-functions", "energy"]
    best = trained.groupby("family")["energy"].min()
    yield (
        "the best of each family leave between {:.2f} and {:.2f} of the composition's error",
        best.min(),
        best.max(),
    )
    random = ratio[ratio.index.str.contains("untrained")]
    yield "before their training leave {:.2f} or more of it", random["energy"].min()
    yield (
        "The symmetry functions leave {:.2f} of the composition's error, no network less than "
        "{:.2f}.",
        ratio.loc["symmetry-functions", "volume"],
        trained["volume"].min(),
    )

    pays = tables["pays"].query("target == 'energy'")
    equal = pays.query("way == 'equal weights'").pivot(
        index="model", columns="order", values="ratio"
    )
    damped = tables["pays"].query("way == 'damped'")["ratio"]
    yield (
        "the second cumulant already costs CHGNet {:.0f} %, and eight cost each of the five "
        "networks between {:.0f} and {:.0f} % of the energy's error",
        100 * (equal.loc["chgnet-0.3.0", 2] - 1),
        100 * (equal[8].min() - 1),
        100 * (equal[8].max() - 1),
    )
    yield (
        "over both targets and all orders the ratio stays between {:.2f} and {:.2f}.",
        damped.min(),
        damped.max(),
    )
    four = tables.full("14_features_at_work-orders").query(
        "dataset == 'alexandria-random-1k' and held_out == 'another material' and "
        "source == 'networks' and pooling == '4 cumulants' and weights == 'damped'"
    )
    gain = four.set_index("quantity").loc["energy"]
    assert gain["high"] < 1
    yield (
        "gained {:.0f} % of the energy's error with four cumulants over twelve checkpoints",
        100 * (1 - gain["value"]),
    )

    bent = tables["poolings"].query("pooling == 'composition' and way == 'alone'")
    bent = bent.set_index("target")["mae"]["energy"]
    assert abs(bent / mae["composition"] - 1) < 0.005
    repeated = tables.full("09_structures-repeated")
    assert repeated["division"].nunique() == 5
    kinds = ["pooling", "way", "target"]
    by_network = repeated.groupby([*kinds, "model"])["ratio"].mean()
    other = by_network.groupby(kinds).mean()
    yield (
        "In place of the mean, the largest value leaves {:.2f} of its error for the energy and the "
        "mean per element {:.2f}; beside it, damped, {:.2f} and {:.2f}.",
        *(
            other[pooling, way, "energy"]
            for way in ("alone", "damped")
            for pooling in ("largest value", "mean per element")
        ),
    )
    composition = by_network["composition", "equal weights", "energy"]
    ends = composition.agg(["min", "max"])
    assert composition.index[[composition.argmin(), composition.argmax()]].tolist() == [
        "nequix-mp-1",
        "chgnet-0.3.0",
    ]
    beside = repeated.query("pooling == 'composition' and way == 'equal weights'")
    beside = beside.query("target == 'energy'")
    assert len(beside) == 25
    assert beside["high"].max() < 1
    yield (
        "leaves {:.2f} beside the mean and, with equal weight, {:.2f}, from {:.2f} for Nequix to "
        "{:.2f} for CHGNet, and not one of the 25 intervals reaches 1; for\nthe volume {:.2f}.",
        other["composition", "damped", "energy"],
        composition.mean(),
        *ends,
        other["composition", "equal weights", "volume"],
    )
    attention = by_network["attention", "alone", "energy"]
    yield (
        "leaves {:.2f} of the mean's error for the energy ({:.2f} to {:.2f} over the networks) and "
        "{:.2f} for the volume; stopped where other structures are predicted best, it stays at the "
        "mean ({:.2f} and {:.2f}).",
        attention.mean(),
        *attention.agg(["min", "max"]),
        other["attention", "alone", "volume"],
        *other["attention", "damped"][["energy", "volume"]],
    )
    yield (
        "takes {:.0f} to {:.0f} % off the error for the energy, with each of five networks",
        *100 * (1 - ends[["max", "min"]]),
    )

    curves = tables["curves"].pivot(index="structures", columns="source", values="mae")
    last = curves.index.max()
    yield (
        "With 100 training structures the networks leave {:.2f} eV per atom and the composition "
        "alone {:.2f}; with eight times as many, {:.2f} and {:.2f}.",
        *curves.loc[100, ["networks", "composition"]],
        *curves.loc[last, ["networks", "composition"]],
    )
    enough = curves.index[curves["networks"] <= curves.loc[last, "symmetry functions"]].min()
    yield (
        "The networks reach with {} structures what the symmetry functions reach with {}.",
        enough,
        last,
    )

    targets = ["energy", "volume"]
    by_family = trained.groupby("family").mean(numeric_only=True)
    ranks = [t[targets].corrwith(t["gfre"], method="spearman") for t in (trained, by_family)]
    yield (
        "Over the 26 checkpoints the rank correlation is {:.2f} for the energy and {:.2f} for the "
        "volume; of the means of seven families, {:.2f} and {:.2f}.",
        *ranks[0],
        *ranks[1],
    )
    yield (
        "it is among the poorer sources ({:.2f}) and among the better descriptions ({:.2f} of the "
        "energy's error)",
        *trained.loc["qet-matq", ["gfre", "energy"]],
    )

    def pair(dataset, held_out, quantity):
        one = means.loc[dataset, held_out].xs(quantity, level="quantity")
        ours, other = one.loc["networks"], one.loc["symmetry-functions"]
        assert ours["ratio_high"] < other["ratio_low"]
        return ours["ratio"], other["ratio"]

    yield (
        "With a new element the networks still leave {:.2f} of the energy's error and the symmetry "
        "functions {:.2f}; from small cells to larger ones, {:.2f} and {:.2f}.",
        *pair("alexandria-random-1k", "a new element", "energy"),
        *pair("alexandria-random-1k", "larger cells", "energy"),
    )
    yield (
        "they lead for the energy again ({:.2f} and {:.2f})",
        *pair("mptrj-random-1k", "another material", "energy"),
    )
    volume = means.loc["mptrj-random-1k", "another material"].xs("volume", level="quantity")
    ours, other = volume.loc["networks"], volume.loc["symmetry-functions"]
    assert other["ratio_low"] < ours["ratio_high"]
    yield (
        "and for the volume the intervals overlap ({:.2f} and {:.2f})",
        ours["ratio"],
        other["ratio"],
    )
    yield "The second cumulant is new to a linear map, with an error of {:.2f} to {:.2f}", *second
