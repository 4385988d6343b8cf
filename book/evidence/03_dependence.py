"""The sentences of chapter 03, and what fills their numbers."""


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table of results to its data."""
    errors = tables["errors"]
    studies = dict([*errors.groupby("study")])
    folds = studies["folds"].groupby(["setting", "metric"])["error"].agg(["median", "max"])
    usual, book = folds.loc["by atom, cutoff"], folds.loc["by structure, Tikhonov"]
    yield (
        "With folds by atom and a cutoff the median LFRE is {:.2f}, with folds by structure and "
        "Tikhonov {:.2f}, and the worst of the twenty pairs goes from {:.2f} to {:.2f}",
        *(usual.loc["lfre", "median"], book.loc["lfre", "median"]),
        *(usual.loc["lfre", "max"], book.loc["lfre", "max"]),
    )
    assert abs(usual.loc["gfre", "median"] - book.loc["gfre", "median"]) < 0.01
    yield "the median GFRE moves by less than {:.2f}", 0.01
    held = studies["held out"].pivot_table("error", "metric", "setting", "median")
    order = ["atom", "structure", "system"]
    whole = tables.full("03_held_out-errors").pivot(
        index=["source", "target"], columns="setting", values="error"
    )
    yield (
        "On all thousand atoms the median LFRE is {:.2f} held out by atom, {:.2f} by structure and "
        "{:.2f} by system",
        *whole.median()[order],
    )
    yield (
        "in {} of {} pairs they make the error smaller",
        (whole["atom"] < whole["structure"]).sum(),
        len(whole),
    )
    assert whole["atom"].idxmax() == ("m3gnet-matpes-pbe", "7net-0")
    yield "an error of {:.2f} from M3GNet to SevenNet", whole["atom"].max()
    yield (
        "On a hundred atoms the three are {:.2f}, {:.2f} and {:.2f}, so the first of them was luck "
        "by {:.2f}",
        *held.loc["lfre", order],
        whole["atom"].median() - held.loc["lfre", "atom"],
    )
    yield (
        "The GFRE goes from {:.2f} by atom to {:.2f} by structure and {:.2f} by system",
        *held.loc["gfre", order],
    )
    yield from curves(tables["neighbours"].set_index("setting"), studies["training"])
    yield from directions(tables["weak"])
    yield from digits(tables.full("03_precision-errors"), studies["scaling"])
    seeds = tables["seeds"].groupby("metric")[["spread", "interval"]].median() * 100
    yield (
        "lie {:.0f} % apart, in the median over pairs, and the interval over splits and structures "
        "is as wide as {:.0f} % of the error. For local errors on few atoms it is {:.0f} %",
        *seeds.loc["gfre"],
        seeds.loc["lfre", "interval"],
    )
    yield from outliers(tables["extremes"], studies["outliers"])


def curves(near, training):
    """Numbers of neighbours and of training atoms."""
    assert near["a map"].idxmin() == 128 and near["their mean"].idxmin() == 8
    assert (near["a map"] < near["their mean"])[16:].all()
    yield (
        "best with 128 neighbours, {:.2f}, where the mean of the same neighbours leaves {:.2f}. But "
        "the mean is best with eight, and leaves only {:.2f}. Between the two at their best lies "
        "{:.2f}",
        *near.loc[128, ["a map", "their mean"]],
        near["their mean"].min(),
        near["their mean"].min() - near["a map"].min(),
    )
    middle = training.groupby("setting")["error"].median().sort_index(key=lambda n: n.astype(int))
    yield "the median GFRE falls from {:.2f} to {:.2f}", middle.iloc[0], middle.iloc[-1]
    yield "the last doubling takes {:.0f} %", 100 * (1 - middle.iloc[-1] / middle.iloc[-2])


def directions(weak):
    """What is lost with the directions that hardly vary."""
    table = weak.pivot(index="source", columns="share", values="error")
    whole, cut = table[0.0], table[1e-4]
    left = weak.set_index(["source", "share"])
    chgnet = left.loc["chgnet-0.3.0"]
    yield (
        "Of the {} directions of CHGNet 0.3.0, {} hold less",
        chgnet.loc[0.0, "directions"],
        chgnet.loc[0.0, "directions"] - chgnet.loc[1e-4, "directions"],
    )
    assert whole.rank()["chgnet-0.3.0"] == 2 and cut.rank()["chgnet-0.3.0"] == 5
    yield (
        "onto the other four rises from {:.2f} to {:.2f}",
        whole["chgnet-0.3.0"],
        cut["chgnet-0.3.0"],
    )
    kin = chgnet["to descendant"]
    yield "it rebuilds to {:.2f} with them and to {:.2f} without", kin[0.0], kin[1e-4]
    assert (cut - whole).drop("chgnet-0.3.0").max() < 0.02
    yield "No other network of the five loses more than {:.2f} by the same cut", 0.02
    assert (cut - whole)["nequix-mp-1"] < 0.002


def digits(precision, scaling):
    """Half and single precision, rounding, units."""
    pairs = ["folds", "metric", "source", "target"]
    wide = precision.pivot_table("error", pairs, "precision")
    moved = (wide["half"] - wide["single"]).abs().groupby(["folds", "metric"]).max()
    assert moved["by structure, Tikhonov", "gfre"] < 0.001
    yield "a GFRE moves by less than {:.3f} from one precision to the other", 0.001
    yield "an LFRE by {:.2f} at most", moved["by structure, Tikhonov", "lfre"]
    worst = wide.loc["by atom, cutoff"].loc["lfre"].max()
    yield (
        "the largest LFRE is {:.2f} from single precision and {:.2f} from half",
        worst["single"],
        worst["half"],
    )
    table = scaling.pivot_table("error", ["source", "target"], "setting")
    plain = table["as they are"]
    yield (
        "gives errors within {:.3f} of the usual ones",
        (table["rounded to 2 bits"] - plain).abs().max(),
    )
    equal, inside = table["unit variance each"], table["elements' means removed"]
    yield (
        "the median goes from {:.2f} to {:.2f}, single pairs by up to {:.2f}, and the order of the "
        "pairs is a different one (rank correlation {:.2f})",
        *(plain.median(), equal.median(), (equal - plain).abs().max()),
        plain.corr(equal, method="spearman"),
    )
    yield (
        "means the median is {:.2f} and the order, too, another one ({:.2f})",
        inside.median(),
        plain.corr(inside, method="spearman"),
    )


def outliers(extremes, errors):
    """A few atoms that carry the variance."""
    share = extremes.set_index(["dataset", "model"])["share"]
    own = share["embedded-third", "7net-l3i5"]
    yield (
        "carries {:.2f} of the variance of SevenNet-l3i5; on Alexandria it is {:.2f}, and nowhere "
        "else here does it exceed {:.2f}",
        *(own, share["alexandria-random-1k", "7net-l3i5"], share[share < own].max()),
    )
    onto = errors[errors["target"] == "7net-l3i5"].groupby("setting")["error"].agg(["min", "max"])
    yield "errors from {:.2f} to {:.2f}", *onto.loc["all structures"]
    yield "the same errors are {:.2f} to {:.2f}", *onto.loc["without the far atoms"]
