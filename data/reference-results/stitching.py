"""Write ``full/08_measures-stitching.csv``: what stitching costs between all published checkpoints.

Chapter 08 draws it. It takes features that ship, and some minutes.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from umlip_latents import list_models, load_features, published_models
from umlip_latents.analysis.matched_pairs import relation
from umlip_latents.analysis.stitching import stitching_errors
from umlip_latents.features.shipped import read_readout, shipped_models

DATASET = "alexandria-random-1k"
OUTPUT = Path(__file__).with_name("full") / "08_measures-stitching.csv"
DESCRIPTORS = ("soap", "element", "symmetry-functions")
TWICE = {"m3gnet-mp-2021", "m3gnet-mp-2021-first-training"}


def kinship(source: str, target: str) -> str:
    """What a source has in common with its target; nothing for another family's twin."""
    one, other = (list_models()[name]["family"] for name in (source, target))
    if source in DESCRIPTORS:
        return source
    if source.endswith("untrained-s0"):
        return "untrained twin" if one == other else ""
    if source == target:
        return "itself"
    if relation(source, target):
        return "shared weights"
    if {source, target} == TWICE:
        return "another training"
    return "same family" if one == other else "another family"


def share_read(name: str) -> float:
    """Share of the variance of a last layer along the direction that its readout follows."""
    x = load_features(DATASET, [name], "last")[name].features.astype(float)
    mean, small = x.mean(axis=0), 1e-3 * np.eye(x.shape[1])
    readout = read_readout(name)
    slope = readout.energies(mean + small) - readout.energies(mean - small)
    return np.var(x @ slope) / (slope @ slope) / x.var(axis=0).sum()


if __name__ == "__main__":
    twins = [name for name in shipped_models(DATASET) if name.endswith("untrained-s0")]
    targets = [name for name in published_models() if "eform" not in name]
    last = load_features(DATASET, [*published_models(), *twins, *DESCRIPTORS], "last")
    layers = {"last": last, "backbone": load_features(DATASET, [*last])}
    goals, readouts = {name: last[name] for name in targets}, {n: read_readout(n) for n in targets}
    found = [
        stitching_errors(features, goals, readouts).assign(layer=layer)
        for layer, features in layers.items()
    ]
    table = pd.concat(found)
    kin = [kinship(*pair) for pair in zip(table["source"], table["target"], strict=True)]
    table = table.assign(kin=kin, read=table["target"].map({n: share_read(n) for n in targets}))
    shown = ["layer", "kin", "source", "target", "gfre", "error", "low", "high"]
    shown += ["error_median", "shifted", "own", "spread", "read"]
    table = table.loc[table["kin"] != "", shown]
    table[shown[5:-1]] = table[shown[5:-1]].round(1)
    table.round(4).to_csv(OUTPUT, index=False, lineterminator="\n")
