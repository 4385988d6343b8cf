"""Write ``full/06_fine_tuning-methods.csv``: what ways of fine-tuning keep, at which error.

Chapter 06 draws it. It takes some minutes of one core, and Alexandria's sample with its labels.
Everything is small: one network, sixteen structures of Li3PS4, three epochs, and three seeds, which
draw the order of the structures. Learning rates were chosen in a few short trials with another
seed, such that a way learns within these epochs, which a new readout (transfer learning) does not.
The argument is a folder for all networks.
"""

import sys
from itertools import product
from pathlib import Path

import pandas as pd

from umlip_latents import Split, compare, features_by_layer, load_model, load_structures
from umlip_latents.models.base import one_thread
from umlip_latents.structures.splits import split_by_origin
from umlip_latents.training.fine_tuning import FineTuning, fine_tune
from umlip_latents.training.plan import TrainingSettings, prediction_errors

OUTPUT = Path(__file__).with_name("full") / "06_fine_tuning-methods.csv"
START, SIBLING = "chgnet-0.3.0", "chgnet-0.2.0"
SEEDS, EPOCHS = (1, 2, 3), 3
RATES = {
    "full fine-tuning": 1e-3,
    "layer freezing": 2e-3,
    "LoRA": 3e-2,
    "heads fine-tuning": 3e-3,
}
TRAINING, TEST = split_by_origin(load_structures("li3ps4-gfn1"), 16, 10)
# of other elements than the target's, whose energies the fine-tuning shifts
OTHERS = [a for a in load_structures("alexandria-random-1k") if not {*a.symbols} & {"Li", "P", "S"}]
ALEXANDRIA, LABELLED = OTHERS[:60], OTHERS[:30]


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


if __name__ == "__main__":
    names, domains = (
        {"start": START, "sibling": SIBLING},
        {"target": TEST, "alexandria": ALEXANDRIA},
    )
    with one_thread():
        known = {(n, d): layers(m, s) for n, m in names.items() for d, s in domains.items()}
        known["energy"] = prediction_errors(load_model(START), LABELLED)["energy"]
        rows = []
        for protocol, seed in product(RATES, SEEDS):
            settings = TrainingSettings(EPOCHS, RATES[protocol], seed=seed)
            run = fine_tune(START, TRAINING, TEST, protocol, settings, cache=sys.argv[1])
            for epoch, energy, force in run.history.itertuples(index=False):
                row = {"start": START, "protocol": protocol, "seed": seed, "epoch": int(epoch)}
                row |= {"energy": energy, "force": force}
                rows.append(row | measure(run, int(epoch), known))
    pd.DataFrame(rows).round(4).to_csv(OUTPUT, index=False, lineterminator="\n")
