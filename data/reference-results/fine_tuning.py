"""Write ``full/06_fine_tuning-methods.csv``: what ways of fine-tuning keep, at which error.

Chapter 06 draws it. It takes half an hour of one core, and the samples of Alexandria and MPtrj with
their labels. Everything is small: two networks, sixteen structures of Li3PS4, a few epochs, and
three seeds, which draw the order of the structures. Learning rates were chosen in a few short
trials with another seed, such that a way learns within these epochs, which a new readout (transfer
learning) does not. The argument is a folder for all networks.
"""

import sys
from itertools import product
from pathlib import Path

import pandas as pd

from umlip_latents import Split, compare, features_by_layer, load_model, load_structures
from umlip_latents.models.base import one_thread
from umlip_latents.structures.splits import split_by_origin
from umlip_latents.training.fine_tuning import REPLAY, FineTuning, fine_tune
from umlip_latents.training.plan import TrainingSettings, prediction_errors

OUTPUT = Path(__file__).with_name("full") / "06_fine_tuning-methods.csv"
SEEDS = (1, 2, 3)
SIBLINGS = {"chgnet-0.3.0": "chgnet-0.2.0", "mini-mace-mptrj": "mini-mace-base-s0"}
EPOCHS = {"chgnet-0.3.0": 3, "mini-mace-mptrj": 8}
RATES = {
    ("chgnet-0.3.0", "full fine-tuning"): 1e-3,
    ("chgnet-0.3.0", "layer freezing"): 2e-3,
    ("chgnet-0.3.0", "LoRA"): 3e-2,
    ("chgnet-0.3.0", "heads fine-tuning"): 3e-3,
    ("mini-mace-mptrj", "full fine-tuning"): 5e-3,
    ("mini-mace-mptrj", "layer freezing"): 5e-2,
    ("mini-mace-mptrj", "LoRA"): 6e-2,
    ("mini-mace-mptrj", "heads fine-tuning"): 1.0,
    ("mini-mace-mptrj", REPLAY): 5e-3,
}
TRAINING, TEST = split_by_origin(load_structures("li3ps4-gfn1"), 16, 10)
# of other elements than the target's, whose energies the fine-tuning shifts
OTHERS = [a for a in load_structures("alexandria-random-1k") if not {*a.symbols} & {"Li", "P", "S"}]
ALEXANDRIA, LABELLED = OTHERS[:60], OTHERS[:30]
SMALL = [atoms for atoms in load_structures("mptrj-random-1k") if len(atoms) <= 30][:16]


def layers(model, structures) -> dict:
    """The features of backbone and last layer."""
    found = features_by_layer(structures, model, progress=False)
    return {layer: found[layer] for layer in ("backbone", "last")}


def measure(run: FineTuning, epoch: int, known: dict) -> dict[str, float]:
    """What the network after an epoch keeps, on the target and on Alexandria."""
    model = run.model(epoch)
    errors = prediction_errors(model, LABELLED)
    moved, force = errors["energy"] - known["energy"], errors["force"].map(lambda e: abs(e).mean())
    # not the error: the elements' energies in Alexandria are not those that the start has learned
    row = {"alexandria_energy_change": 1000 * moved.abs().mean()}
    row["alexandria_force"] = 1000 * force.mean()
    for domain, structures in (("target", TEST), ("alexandria", ALEXANDRIA)):
        tuned = layers(model, structures)
        groups = [a.info["origin"] for a in structures] if domain == "target" else None
        for layer, features in tuned.items():
            three = {name: known[name, domain][layer] for name in ("start", "sibling")}
            split = Split(groups=groups)
            found = compare(three | {"tuned": features}, split=split, n_splits=3).matrix()
            row[f"{domain}_{layer}_from_start"] = found.loc["start", "tuned"]
            row[f"{domain}_{layer}_from_sibling"] = found.loc["sibling", "tuned"]
            row[f"{domain}_{layer}_to_start"] = found.loc["tuned", "start"]
    return row


def known_features(start: str) -> dict:
    """Features and errors elsewhere of a start, and the features of its sibling."""
    names = {"start": start, "sibling": SIBLINGS[start]}
    domains = {"target": TEST, "alexandria": ALEXANDRIA}
    known = {(n, d): layers(m, s) for n, m in names.items() for d, s in domains.items()}
    return known | {"energy": prediction_errors(load_model(start), LABELLED)["energy"]}


if __name__ == "__main__":
    rows = []
    with one_thread():
        known = {start: known_features(start) for start in SIBLINGS}
        for (start, protocol), seed in product(RATES, SEEDS):
            settings = TrainingSettings(EPOCHS[start], RATES[start, protocol], seed=seed)
            how = {"replay": SMALL if protocol == REPLAY else (), "cache": sys.argv[1]}
            run = fine_tune(start, TRAINING, TEST, protocol, settings, **how)
            for epoch, energy, force in run.history.itertuples(index=False):
                row = {"start": start, "protocol": protocol, "seed": seed, "epoch": int(epoch)}
                row |= {"energy": energy, "force": force}
                rows.append(row | measure(run, int(epoch), known[start]))
    pd.DataFrame(rows).round(4).to_csv(OUTPUT, index=False, lineterminator="\n")
