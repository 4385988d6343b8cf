"""Whether two builds found the same: ``tests/same_tables.py FOLDER OTHER``, such as two `_build`.

Every result table, number by number to a relative 1e-8, and every finding and headline, word by
word; what the builds were made with is not compared.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 1e-8


def differences(folder: Path, other: Path) -> list[str]:
    """A line for everything in which the results of two folders differ."""
    ones, others = ({file.name: file for file in results(path)} for path in (folder, other))
    found = [f"{name}: only one of the folders has it" for name in sorted({*ones} ^ {*others})]
    for name in sorted({*ones} & {*others}):
        compare = cells if name.endswith(".csv") else words
        found += [f"{name}: {line}" for line in compare(ones[name], others[name])]
    return found


def results(folder: Path) -> list[Path]:
    """The tables and findings in or below a folder's ``results``."""
    inside = folder / "results" if (folder / "results").is_dir() else folder
    return [file for file in inside.iterdir() if file.suffix in (".csv", ".json")]


def cells(one: Path, other: Path) -> list[str]:
    """Cells of two tables that differ."""
    a, b = pd.read_csv(one), pd.read_csv(other)
    if a.shape != b.shape or [*a.columns] != [*b.columns]:
        return [f"{a.shape} rows and columns against {b.shape}, or other columns"]
    found = []
    for column in a:
        x, y = a[column], b[column]
        same = (x == y) | (x.isna() & y.isna())
        if pd.api.types.is_numeric_dtype(x) and pd.api.types.is_numeric_dtype(y):
            same = np.isclose(x, y, rtol=TOLERANCE, atol=0, equal_nan=True)
        found += [f"row {i}, {column}: {x[i]} against {y[i]}" for i in np.flatnonzero(~same)]
    return found


def words(one: Path, other: Path) -> list[str]:
    """Findings and headlines that differ."""
    a, b = (json.loads(file.read_text(encoding="utf-8")) for file in (one, other))
    keys = ("headlines", "findings", "profile")
    return [f"{key}: {a.get(key)} against {b.get(key)}" for key in keys if a.get(key) != b.get(key)]


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:]]
    if len(folders) != 2 or not all(map(results, folders)):
        sys.exit("Give two folders with results.")
    found = differences(*folders)
    print("\n".join(found) or f"{len(results(folders[0]))} files of results are the same to 1e-8.")
    sys.exit(bool(found))
