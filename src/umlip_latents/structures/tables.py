"""What is known of structures and atoms, as tables: of a data set that ships, without its file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list

from ..resources import DATA
from .describe import REACH, group_by_origin, physical_properties
from .read import load_structures

BOND = 1.2  # times the sum of the covalent radii: within it, neighbours count


def structure_table(dataset: str | Path | Sequence[Atoms]) -> pd.DataFrame:
    """Each structure's formula, size, kind, origin and physical properties.

    Parameters
    ----------
    dataset
        A registered data set (`list_datasets`), a file, or structures. Of those whose features
        ship, the table ships too.

    Returns
    -------
    pandas.DataFrame
        By index in the data set: ``formula``, ``elements`` (a string such as ``Cl-Na``),
        ``n_atoms``, ``subset`` (the kind, where known), ``origin`` (`group_by_origin`) and the
        columns of `physical_properties`.

    Examples
    --------
    >>> structure_table("embedded-third")["formula"].iloc[:3].tolist()
    ['B12U', 'C16B16Mg8', 'Bi2Te3']
    """
    shipped = DATA / "features" / str(dataset) / "structures.csv"
    if isinstance(dataset, str) and shipped.is_file():
        return pd.read_csv(shipped, index_col="structure", keep_default_na=False, na_values=[""])
    structures = load_structures(dataset) if isinstance(dataset, str | Path) else dataset
    rows = [
        {
            "formula": atoms.get_chemical_formula(),
            "elements": "-".join(sorted({*atoms.symbols})),
            "n_atoms": len(atoms),
            "subset": atoms.info.get("subset"),
        }
        for atoms in structures
    ]
    table = pd.DataFrame(rows).assign(origin=group_by_origin(structures))
    return table.join(physical_properties(structures)).rename_axis("structure")


def atom_table(dataset: str | Path | Sequence[Atoms]) -> pd.DataFrame:
    """Each atom's structure, element and surroundings.

    Parameters
    ----------
    dataset
        As in `structure_table`.

    Returns
    -------
    pandas.DataFrame
        A row per atom, in the order of the features of a model that accepts every structure:
        ``structure``, ``element``, ``coordination`` (neighbours nearer than 1.2 times the sum of
        the covalent radii) and ``distance`` to the nearest neighbour (Å), 6 where none is nearer.

    Examples
    --------
    >>> from ase.build import bulk
    >>> atom_table([bulk("Cu", a=3.6)]).round(2).to_dict("records")
    [{'structure': 0, 'element': 'Cu', 'coordination': 12, 'distance': 2.55}]
    """
    shipped = DATA / "features" / str(dataset) / "atoms.csv.gz"
    if isinstance(dataset, str) and shipped.is_file():
        return pd.read_csv(shipped, keep_default_na=False)
    structures = load_structures(dataset) if isinstance(dataset, str | Path) else dataset
    tables = []
    for index, atoms in enumerate(structures):
        centre = neighbor_list("i", atoms, natural_cutoffs(atoms, mult=BOND))
        i, distance = neighbor_list("id", atoms, REACH)
        nearest = pd.Series(distance).groupby(i).min()
        columns = {"structure": index, "element": [*atoms.symbols]}
        columns["coordination"] = np.bincount(centre, minlength=len(atoms))
        columns["distance"] = nearest.reindex(range(len(atoms)), fill_value=REACH).to_numpy()
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
