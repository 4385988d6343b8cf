"""Write ``full/09_structures-repeated.csv``: poolings of five networks, the folds drawn five times.

Chapter 09 draws it, and computes it: its cells run here once for each division into folds, with
the number of the division as the seed of the attention. That takes a quarter of an hour.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import papermill

from umlip_latents.resources import ROOT

OUTPUT = Path(__file__).with_name("full") / "09_structures-repeated.csv"
CHAPTER = "09_structures"
NETWORKS = ["chgnet-0.3.0", "7net-0", "nequix-mp-1", "tensornet-matpes-pbe", "m3gnet-matpes-pbe"]
KEYS = ["pooling", "way", "target", "model"]


def poolings(division: int, folder: Path) -> pd.DataFrame:
    """What the chapter finds with one division of the structures into folds."""
    given = {"models": NETWORKS, "chosen": NETWORKS, "tried": NETWORKS, "untrained": []}
    given |= {"division": division, "seeds": [division], "results": str(folder)}
    notebook = ROOT / "notebooks" / f"{CHAPTER}.ipynb"
    papermill.execute_notebook(notebook, folder / "executed.ipynb", given, cwd=notebook.parent)
    orders, others = (pd.read_csv(folder / f"{CHAPTER}-{t}.csv") for t in ("pays", "poolings"))
    orders["pooling"] = orders["order"].astype(str) + " cumulants"
    return pd.concat([orders, others])[[*KEYS, "ratio", "low", "high"]].assign(division=division)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        found = pd.concat([poolings(division, Path(name)) for division in range(5)])
    found.round(4).to_csv(OUTPUT, index=False, lineterminator="\n")
