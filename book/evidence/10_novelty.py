"""The sentences of chapter 10, and what fills their numbers."""

BASELINES = ["chgnet-untrained-s0", "symmetry-functions", "element"]
NOTICED = ["with Ni", "with Li"]


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table's name to its DataFrame."""
    areas = tables["areas"].assign(
        who=lambda t: t["model"].where(t["model"].isin(BASELINES), "networks")
    )
    leverage = areas.query("score == 'leverage'")
    assert leverage["model"].nunique() == 8
    element = leverage.query("aspect == 'element'")
    assert element["case"].nunique() == 4
    who = element.groupby("who")["area"].mean()
    yield (
        "a structure with the missing element scores above a familiar one with a chance of "
        "{:.2f}: a guess. The bare list of elements orders them perfectly, {:.2f}, and CHGNet with "
        "random weights nearly, {:.2f}.",
        who["networks"],
        who["element"],
        who["chgnet-untrained-s0"],
    )
    cell = leverage.pivot(index="case", columns="model", values="area")
    mean = leverage.pivot_table(index="case", columns="who", values="area")
    yield "CHGNet notices nickel and lithium ({:.2f} and {:.2f})", *cell["chgnet-0.3.0"][NOTICED]
    lanthanum = cell.loc["with La"].drop(BASELINES)
    yield "looks ordinary to all five ({:.2f} to {:.2f})", lanthanum.min(), lanthanum.max()
    assert (
        cell.loc[["molecule", "dimer"], ["tensornet-matpes-pbe", "m3gnet-matpes-pbe"]] > 0.9
    ).all(axis=None)
    yield (
        "molecules and dimers stand out to CHGNet ({:.2f} and {:.2f}), TensorNet and M3GNet; to "
        "SevenNet a dimer looks more ordinary than a crystal of the reference ({:.2f}).",
        cell.loc["molecule", "chgnet-0.3.0"],
        cell.loc["dimer", "chgnet-0.3.0"],
        cell.loc["dimer", "7net-0"],
    )
    networks = cell.drop(columns=BASELINES)
    assert (networks.loc[["surface", "rattled"]] < 0.55).all(axis=None)
    functions = cell.loc[["surface", "rattled"], "symmetry-functions"].round(2)
    assert functions.nunique() == 1
    yield (
        "Surfaces and rattled crystals are found by no network: {:.2f} and {:.2f} at the mean, no "
        "better than a guess, where symmetry functions have {:.2f} for either.",
        *mean.loc[["surface", "rattled"], "networks"],
        functions.iloc[0],
    )
    kinds = areas.query("aspect == 'kind'")
    sizes = kinds.groupby("case")["n_new"].min()
    assert (sizes["dimer"], sizes["2d"]) == (7, 20)
    by_score = kinds.pivot_table(index="score", columns="who", values="area")
    yield (
        "the networks reach {:.2f} to {:.2f} by any of the four, the symmetry functions {:.2f} by "
        "the distance.",
        by_score["networks"].min(),
        by_score["networks"].max(),
        by_score.loc["distance", "symmetry-functions"],
    )
    of_elements = areas.query("aspect == 'element' and who == 'networks'")
    assert (of_elements.groupby("score")["area"].mean() < 0.6).all()

    alarms = tables["alarms"].set_index("structures").iloc[:, 0]
    yield "Of the familiar structures a share of {:.2f} lies above", alarms["familiar"]
    yield (
        "So do {:.2f} of the dimers and {:.2f} of the molecules",
        alarms["dimer"],
        alarms["molecule"],
    )
    assert (alarms[["surface", "2d", "rattled"]] == 0).all()

    moved = tables["moved"].pivot(index="model", columns="amplitude")
    shift, rises = moved["shift"], moved["rises"]
    yield (
        "atoms have moved in CHGNet's features by {:.2f} of the distance to the reference, by "
        "three tenths of an ångström {:.1f} times that distance. Yet the leverage rises in no "
        "more than {:.2f} of the structures.",
        shift.loc["chgnet-0.3.0", 0.1],
        shift.loc["chgnet-0.3.0", 0.3],
        rises.loc["chgnet-0.3.0"].max(),
    )
    inward = ["chgnet-untrained-s0", "symmetry-functions"]
    yield (
        "{:.2f} and {:.2f} times that distance at the largest amplitude",
        *shift.loc[inward, 0.3],
    )
    assert (rises.loc[inward] < 0.35).all(axis=None)
    assert (shift.loc["element"] == 0).all()
    yield (
        "every score is a tie, and ties count half: {:.2f}, not zero.",
        rises.loc["element"].mean(),
    )

    distances = tables["distances"]
    far = distances.groupby(["first", "second"])["mmd"].mean()
    assert far.idxmax() == ("random", "molecule")
    near = distances.query("first == 'rattled' and second == 'bulk'")
    yield (
        "The largest discrepancy, {:.2f}, is that between molecules and random structures; between "
        "bulk and rattled crystals it is {:.2f}, and no network finds it larger than chance makes "
        "it.",
        far.max(),
        near["mmd"].mean(),
    )
    assert (near["p"] > 0.05).all()
    yield (
        "The bulk crystals of the embedded set are as far from Alexandria ({:.2f}) as layers are "
        "({:.2f})",
        far["alexandria-random-1k", "bulk"],
        far["alexandria-random-1k", "2d"],
    )
    long_run = tables.full("15_novelty-distances")
    rattled = long_run.query("pair == 'bulk of embedded and rattled' and measure == 'mmd'")
    rattled = rattled.set_index("model")["p"]
    yield "in the long run, CHGNet does, p = {:.2f}.)", rattled["chgnet-0.3.0"]
    beyond = tables["halves"].groupby(["set", "by"])["beyond"].mean()
    bulk = "bulk"
    yield (
        "Divided structure by structure, {:.2f} of the halves of Alexandria and {:.2f} of those of "
        "the embedded bulk lie beyond the limit",
        beyond["alexandria-random-1k", "structure"],
        beyond[bulk, "structure"],
    )
    yield "it is {:.2f} of the embedded bulk.", beyond[bulk, "formula"]
    halves = long_run[long_run["pair"].str.endswith("halves")]
    late = halves[halves["p"] < 0.05]
    yield (
        "in which {} of {} half-splits were beyond",
        len(late),
        len(halves),
    )
    assert late["pair"].str.startswith("bulk").sum() == 3
    assert (~halves["pair"].str.startswith("bulk")).sum() == 12

    ratios = tables["selection"].query("way == 'farthest points'")
    mean = ratios.query("of == 'mean error'").groupby("n")["ratio"].agg(["mean", "min"])
    assert (mean["min"] > 1).all()
    tail = ratios.query("of == '95th percentile'").groupby("n")["ratio"].mean()
    yield (
        "With farthest points the mean error is {:.0f} to {:.0f} % larger than with random "
        "structures, at every number of labels, and the large errors are no smaller: the ratio of "
        "the ninety-fifth percentiles stays between {:.2f} and {:.2f}.",
        100 * (mean["mean"].min() - 1),
        100 * (mean["mean"].max() - 1),
        tail.min(),
        tail.max(),
    )
    composition = tables["selection"].query(
        "way == 'farthest points, composition' and of == 'mean error'"
    )
    ends = composition.groupby("n")["ratio"].agg(["min", "max"])
    assert (ends["min"] < 1).all()
    assert (ends["max"] > 1).all()
    dynamics = tables.full("15_novelty-selection").query(
        "set == 'li3ps4-gfn1' and way == 'farthest points' and direction == 'mean error'"
    )
    ten = dynamics.query("n == 10")
    yield (
        "ten farthest points leave {:.2f} to {:.2f} of the error of ten random ones",
        ten["ratio"].min(),
        ten["ratio"].max(),
    )
    assert (len(ten), (ten["ratio_high"] < 1).sum()) == (3, 2)
    assert (dynamics.query("n == 50")["ratio_high"] > 1).all()

    warnings = tables["warnings"]
    fifths = warnings.pivot_table(index="score", columns="fifth", values="error")
    yield (
        "the error rises from {:.2f} to {:.2f} eV per atom by the committee and from {:.2f} to "
        "{:.2f} by the leverage. How new a composition is says nothing, {:.2f} and {:.2f}.",
        *fifths.loc["committee", [1, 5]],
        *fifths.loc["leverage", [1, 5]],
        *fifths.loc["composition", [1, 5]],
    )
    rank = warnings.groupby(["model", "score"])["rank"].first().unstack()
    assert (rank[["leverage", "committee"]].min(axis=1) > rank["composition"]).all()
    assert (rank["committee"] > rank["leverage"]).all()
    yield (
        "The rank correlation of committee and error is {:.2f}, that of the leverage {:.2f}",
        rank["committee"].mean(),
        rank["leverage"].mean(),
    )

    sure = tables["sure"].set_index("model").iloc[:5]
    one, two = (sure[f"within {n} sigma"] for n in (1, 2))
    share = one.min(), one.max()
    yield (
        "Below one standard deviation lie {:.2f} to {:.2f} of the errors, below two {:.2f} to "
        "{:.2f}.",
        *share,
        two.min(),
        two.max(),
    )
    curve = tables["curve"].pivot(index="fifth", columns="model", values="error")
    assert (curve[["7net-0", "nequix-mp-1"]].diff().dropna() > 0).all(axis=None)
    assert (curve.loc[4] / curve.loc[0])[["7net-0", "nequix-mp-1"]].min() > 3
    ranks = tables["ranks"].dropna().pivot(index="sign", columns="model", values="rank")
    yield (
        "with a rank correlation of {:.2f} where the leverage among its backbones has {:.2f}",
        *ranks.loc[["last layer", "leverage"], "chgnet-0.3.0"],
    )
    knows = tables["knows"].set_index("sign")
    assert knows.loc["rarest element", "high"] < knows.loc["last layer", "low"]
    assert knows.loc["last layer", "high"] < knows.loc["committee", "low"]
    yield (
        "the last layer ranks the errors with {:.2f}, interval [{:.2f}, {:.2f}], distance and "
        "leverage do with {:.2f} and {:.2f}. The rarest element gives {:.2f} for nothing, the "
        "number of atoms {:.2f}. The committee reaches {:.2f}.",
        *knows.loc["last layer"],
        *knows.loc[["distance", "leverage", "rarest element", "few atoms", "committee"], "mean"],
    )
    twice = ["m3gnet-mp-2021", "m3gnet-mp-2021-first-training"]
    yield (
        "ranks the errors of each with {:.2f} and {:.2f}; the last layer of each alone does with "
        "{:.2f} and {:.2f}.",
        *ranks.loc["two trainings", twice],
        *ranks.loc["last layer", twice],
    )
    strange = tables["strange"].set_index("structures")["sigma"]
    assert strange["dimer"] == strange.min()
    yield (
        "Of molecules CHGNet is surer ({:.2f} eV per atom) than of familiar crystals ({:.2f}), and "
        "of dimers surest of all ({:.2f}).",
        *strange[["molecule", "familiar", "dimer"]],
    )
    yield (
        "with {:.2f} to {:.2f} of the errors within one standard deviation, ranks them no better "
        "than a distance does ({:.2f} and {:.2f})",
        *share,
        *knows.loc[["last layer", "distance"], "mean"],
    )

    others = tables.full("15_novelty-areas").query("features == 'atoms' and score == 'leverage'")
    others = others.pivot_table(index="level", columns="model", values="area")
    names = ["chgnet-0.3.0", "7net-0", "tensornet-matpes-pbe"]
    hot = others.loc["600 K, not 300 K", names]
    yield (
        "frames at 600 K stand out against 300 K with {:.2f} to {:.2f}",
        hot.min(),
        hot.max(),
    )
    assert (others.loc["900 K, not 300 K", names] > 0.99).all()
    yield (
        "MPtrj against Alexandria reaches {:.2f} with CHGNet, and {:.2f} with SevenNet",
        *others.loc["mptrj-random-1k, not alexandria-random-1k", ["chgnet-0.3.0", "7net-0"]],
    )
    yield "It does not find a new element ({:.2f} on average)", who["networks"]
    yield "with a rank correlation of {:.2f}: a warning on average", rank["committee"].mean()
