"""M3GNet of matgl: node features that enter the readout, inputs of its two final linear maps.

matgl numbers the bonds of a three-body graph among those within the three-body cutoff, looks them
up among all, and takes each to be part of a triple. Here those that are come first, so that both
numbers are the same and features depend on neither batch nor order. In the published checkpoints
angles have next to no weight: this order changes the energy of distorted silicon by less than
2e-4 eV/atom, and leaving out the angles altogether by less than that.
"""

from typing import Any

import torch
from dgl import DGLGraph, edge_subgraph

from .matgl import MatglModel, read

# isort: split
from matgl.graph._compute_dgl import create_line_graph
from matgl.models import M3GNet


class M3GNetModel(MatglModel):
    """Latent features of an M3GNet."""

    interactions = "graph_layers"

    def invariants(self, output: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Node features, between those of the edges and of the state."""
        return output[1]

    def batch(self, graphs: list[DGLGraph]) -> dict[str, Any]:
        """A batch with the bonds of triples first, and the line graph that joins these."""
        joined = super().batch(graphs)["g"]
        cutoff = self.network.threebody_cutoff
        near, atom = joined.edata["bond_dist"] <= cutoff, joined.edges()[0].long()
        in_triple = near & (torch.bincount(atom[near], minlength=len(atom))[atom] > 1)
        order = torch.argsort(~in_triple, stable=True).int()
        options = {"relabel_nodes": False, "store_ids": False}
        triples = edge_subgraph(joined, order[: in_triple.sum()], **options)
        graph = edge_subgraph(joined, order, **options)
        return {"g": graph, "l_g": create_line_graph(triples, cutoff)}


def load(name: str, entry: dict) -> M3GNetModel:
    """A checkpoint that matgl's repository publishes."""
    return M3GNetModel(read(M3GNet, entry), name)
