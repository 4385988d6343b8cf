"""The sentences of chapter 04, and what fills their numbers."""

import numpy as np
import pandas as pd


def networks_alone(errors):
    """The rows between networks: no baseline is a source or a target."""
    baselines = errors["source_family"].isin(["baseline", "SOAP"])
    baselines |= errors["source"].str.contains("untrained")
    known = {*errors["source"][~baselines]}
    return errors[errors["source"].isin(known) & errors["target"].isin(known)]


def beside(errors, rival):
    """Pairs of two families, and the error of a baseline onto the same target."""
    pairs = networks_alone(errors)
    pairs = pairs[pairs["source_family"] != pairs["target_family"]]
    floor = errors[errors["source"] == rival].set_index("target")["error"]
    return pairs.assign(floor=pairs["target"].map(floor))


def both_directions(errors):
    """Mean error of both directions between networks."""
    matrix = networks_alone(errors).pivot_table("error", "source", "target")
    return (matrix + matrix.T) / 2


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table of results to its data."""
    errors = tables["errors"]
    gfre, lfre = errors.query("metric == 'gfre'"), errors.query("metric == 'lfre'")
    summary = tables["summary"].set_index(["study", "source"])
    means = summary["value"].unstack("source")
    pairs = beside(gfre, "element")
    assert pairs["source_family"].nunique() == 7
    yield "Seven families, {} checkpoints", pairs["target"].nunique()

    straight = summary.loc["as above"]
    low, high = straight.loc["element", ["ratio_low", "ratio_high"]]
    assert low < 1 < high
    yield (
        "Across {} pairs of seven families the best linear map misses {:.2f} of the target's "
        "spread; knowing nothing but the element misses {:.2f}",
        len(pairs),
        means.loc["as above", "another network"],
        means.loc["as above", "element"],
    )
    yield (
        "The ratio of the two, {:.2f}, has an interval from {:.2f} to {:.2f}: no measurable "
        "difference",
        *straight.loc["element", ["ratio_value", "ratio_low", "ratio_high"]],
    )
    assert straight.loc["symmetry-functions", "ratio_low"] > 1
    yield (
        "symmetry functions do better than a trained network, with {:.2f}",
        means.loc["as above", "symmetry-functions"],
    )
    by_family = pairs.groupby(["target_family", "target"])[["error", "floor"]].mean()
    ratios = by_family.groupby("target_family").mean().pipe(lambda t: t["error"] / t["floor"])
    yield (
        "A SevenNet is rebuilt {:.0f} % better from another network than from the element, QET "
        "{:.0f} % better",
        100 - 100 * ratios["SevenNet"],
        100 - 100 * ratios["QET"],
    )
    omat = by_family.droplevel(0).loc[["nequix-omat-1", "nequix-oam-1", "nequix-oam-1-pft"]]
    yield (
        "there the networks are {:.0f} and {:.0f} % worse than the element, which alone leaves no "
        "more than {:.2f} of them on average",
        100 * ratios["CHGNet"] - 100,
        100 * omat["error"].mean() / omat["floor"].mean() - 100,
        pd.concat([by_family.loc["CHGNet", "floor"], omat["floor"]]).mean(),
    )
    assert ratios[["TensorNet", "M3GNet"]].between(0.97, 1.03).all()
    yield "For TensorNet and M3GNet the two sources are level."

    inside, bent = summary.loc["within elements"], summary.loc["a map per atom"]
    rivals = ["soap", "symmetry-functions"]
    assert (inside.loc[rivals, "ratio_high"] < 1).all()
    yield (
        "the networks lead: {:.2f} against {:.2f} for SOAP and {:.2f} for the symmetry functions",
        *inside.loc[["another network", *rivals], "value"],
    )
    assert (bent.loc[[*rivals, "element"], "ratio_high"] < 1).all()
    yield (
        "a network leaves {:.2f} where the element leaves {:.2f}",
        *bent.loc[["another network", "element"], "value"],
    )
    local = beside(lfre, "element")
    yield (
        "the better source in {} of {} pairs, and the ratio of the two, {:.2f}, has an interval from "
        "{:.2f} to {:.2f}",
        (local["error"] < local["floor"]).sum(),
        len(local),
        *bent.loc["element", ["ratio_value", "ratio_low", "ratio_high"]],
    )
    assert (local["error"] < local["neighbours"]).all()
    worse = local[local["error"] >= local["floor"]]
    assert (worse["target_family"] == "CHGNet").sum() == 8
    assert {*worse["source_family"]} <= {"SevenNet", "TensorNet", "QET"}
    yield (
        "In all {} pairs the local map also beats the neighbours' mean, which leaves {:.2f}",
        len(local),
        local["neighbours"].mean(),
    )
    yield from tree(gfre)
    yield from sources(pairs)
    yield from elsewhere(summary)
    yield from captions(pairs)


def tree(gfre):
    """Who is near whom."""
    distance = both_directions(gfre)
    upper = distance.where(np.triu(np.ones(distance.shape, bool), 1)).stack().sort_values()
    near = upper[upper < 0.3]
    kin = [{"nequix-oam-1", "nequix-oam-1-pft", "nequix-omat-1"}, {"chgnet-0.3.0", "chgnet-r2scan"}]
    kin += [{"nequix-mp-1", "nequix-mp-1-pft", "nequix-mp-1-pft-nocotrain"}]
    assert len(near) == 7 and all(any({*pair} <= group for group in kin) for pair in near.index)
    yield "Seven pairs lie nearer than {:.1f}, and each of them shares weights", 0.3
    modes = "7net-mf-0-PBE", "7net-mf-0-R2SCAN"
    assert [*upper.index[7]] == [*modes] and {*upper.index[8]} == {"7net-0", modes[0]}
    yield "The next two, at {:.2f} and {:.2f}", *upper.iloc[7:9]
    yield "at {:.2f} from its namesake", distance.loc["nequix-mp-1", "nequix-omat-1"]
    again = distance.loc["m3gnet-mp-2021", "m3gnet-mp-2021-first-training"]
    yield "Two trainings of M3GNet on the same relaxations differ by {:.2f}", again
    yield (
        "QET and TensorNet at {:.2f}, DIEP and M3GNet at {:.2f}",
        distance.loc["qet-matq", "tensornet-matpes-pbe-dgl"],
        distance.loc["diep-2.0-matpes-r2scan", "m3gnet-matpes-r2scan"],
    )
    yield "Above {:.1f} the order of the joints should not be read", 0.5


def sources(pairs):
    """Who rebuilds others best."""
    mean = pairs.groupby("source")["error"].mean().sort_values()
    best = {"nequix-oam-1", "nequix-oam-1-pft", "nequix-omat-1"}
    assert {*mean.index[:3]} == best and mean.index[-4:].str.startswith("7net-").all()
    seven = mean[mean.index.str.startswith("7net-")]
    yield (
        "with a mean error of {:.2f} to the other families. The worst are the SevenNets, with "
        "{:.2f}",
        mean[:3].mean(),
        seven.mean(),
    )


def elsewhere(summary):
    """Other structures, the other layer."""
    third, last = (summary.loc[(name, "element")] for name in ("embedded-third", "last layer"))
    assert third["ratio_high"] < 1 and last["ratio_low"] < 1 < last["ratio_high"]
    ahead = summary.xs("symmetry-functions", level="source")["ratio_low"] > 1
    assert ahead.index[ahead].tolist() == ["as above"]
    yield (
        "a network is the better source by {:.0f} %, ratio {:.2f} with an interval from {:.2f} to "
        "{:.2f}",
        100 - 100 * third["ratio_value"],
        *third[["ratio_value", "ratio_low", "ratio_high"]],
    )
    yield (
        "In the last layer it is {:.2f} with an interval from {:.2f} to {:.2f}",
        *last[["ratio_value", "ratio_low", "ratio_high"]],
    )


def captions(pairs):
    """Alt texts."""
    means = pairs.groupby("target")["error"].mean()
    yield (
        "One row for each of {} checkpoints; dots for the sources of other families between {:.2f} "
        "and {:.2f}, their mean as a bar between {:.2f} and {:.2f}",
        len(means),
        pairs["error"].min(),
        pairs["error"].max(),
        means.min(),
        means.max(),
    )
    yield "Joined below {:.1f} are only checkpoints that share weights", 0.3
    yield "Everything else joins above {:.1f}, most of it between {:.1f} and {:.2f}", 0.3, 0.5, 0.75
