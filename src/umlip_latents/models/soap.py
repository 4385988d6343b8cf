r"""SOAP power spectra of three weighted atomic densities, as a reference point without learning.

.. math::
    \rho^k_i(\mathbf r)
    &= \sum_j w_k(Z_j) f(r_{ij}) \exp(-|\mathbf r - \mathbf r_{ij}|^2 / 2\sigma^2)
    = \sum_{nlm} c^k_{i,nlm} g_n(r) Y_{lm}(\hat{\mathbf r}) \\
    p^k_{i,nn'l} &= \pi \sqrt{8 / (2l + 1)} \sum_m c^k_{i,nlm} c^k_{i,n'lm}

The densities count the atoms, w = 1, weigh them by nuclear charge, w = sqrt(Z / 40), and by
covalent radius, w = R / 1.4 angstrom, so that the width does not grow with the number of elements
(Bartók et al. 2013; Darby et al. 2022, their mode mu = 2). Computed on the processor, always.
"""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from dscribe.descriptors import SOAP

from .base import LAYERS, GraphAdapter, estimated_edges, identity, periodic

SUPPORTED = np.arange(1, 97)  # the elements that have a covalent radius
WEIGHTS = (SUPPORTED**0.0, np.sqrt(SUPPORTED / 40), covalent_radii[SUPPORTED] / 1.4)
CUTOFF = 5.0
HYPERPARAMETERS = {"r_cut": CUTOFF, "n_max": 6, "l_max": 4, "sigma": 0.5, "rbf": "gto"}
HYPERPARAMETERS["weighting"] = {"function": "poly", "r0": CUTOFF, "c": 1.0, "m": 1.0}


class SoapModel(GraphAdapter):
    """Power spectra behind the interface of a model: backbone and last layer are the same.

    Parameters
    ----------
    name
        Name shown in tables.
    """

    fingerprint = identity(HYPERPARAMETERS)

    def __init__(self, name: str) -> None:
        self.name, self.elements = name, SUPPORTED  # and no network
        options = {"species": SUPPORTED.tolist(), "periodic": True, "dtype": "float32"}
        tables = [dict(zip(SUPPORTED.tolist(), w.tolist(), strict=True)) for w in WEIGHTS]
        modes = [{"mode": "mu2", "species_weighting": table} for table in tables]
        self.spectra = [SOAP(**options, compression=mode, **HYPERPARAMETERS) for mode in modes]

    def graph(self, atoms: Atoms) -> Atoms:
        """The structure in a cell with vacuum where it is not periodic."""
        return periodic(atoms, 2 * CUTOFF)

    def size(self, graph: Atoms) -> int:
        """Edges, estimated from the density."""
        return estimated_edges(graph, CUTOFF)

    def features(self, graphs: list[Atoms]) -> dict[str, np.ndarray]:
        """The three spectra of every atom, side by side."""
        rows = [np.hstack([s.create(atoms) for s in self.spectra]) for atoms in graphs]
        return dict.fromkeys(LAYERS, np.concatenate(rows))


def load(name: str, entry: dict) -> SoapModel:
    """Nothing to fetch: the definition is in this file."""
    return SoapModel(name)
