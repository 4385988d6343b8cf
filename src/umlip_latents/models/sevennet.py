"""SevenNet: invariant node features after the last gate, input of `reduce_hidden_to_energy`."""

from operator import itemgetter
from pathlib import Path

import numpy as np
import sevenn
import torch
from ase import Atoms
from sevenn.atom_graph_data import AtomGraphData
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.model_build import build_E3_equivariant_model
from sevenn.nn.sequential import AtomGraphSequential
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.data import Batch

from ..resources import InputError, check_sha256
from .base import Activation, Adapter, interaction_names, periodic, seeded

FOLDER = Path(sevenn.__file__).parent / "pretrained_potentials"


class SevenNetModel(Adapter):
    """Latent features of a SevenNet, on the energy path only.

    An isolated atom is accepted, as SevenNet itself does: its messages are zero and its features
    those that self-connections make of its element.

    Parameters
    ----------
    network
        A network that `sevenn` has built; its force output is taken off.
    name
        Name shown in tables.
    modal
        Which modality (level of theory) of a multi-fidelity network.
    config
        What the network was built from, for `untrained`.
    """

    def __init__(
        self, network: AtomGraphSequential, name: str, modal: str = "", config: dict | None = None
    ) -> None:
        network.delete_module_by_key("force_output")
        network.set_is_batch_data(True)
        about = {"cutoff": network.cutoff, "modal": modal}
        super().__init__(network, name, list(network.type_map), about)
        self.modal, self.config = modal, config
        last = [Activation(network.reduce_hidden_to_energy.linear)]
        gates = [m.gate for key, m in network.named_children() if key.endswith("equivariant_gate")]
        scalars = [itemgetter((..., slice(g.irreps_out.count("0e")))) for g in gates]  # come first
        parts = [[Activation(*part, True)] for part in zip(gates, scalars, strict=True)]
        self.layers = {"backbone": parts[-1], "last": last, **interaction_names(parts)}

    def graph(self, atoms: Atoms) -> AtomGraphData:
        """SevenNet's own graph. A cell that is not periodic all around gets vacuum instead.

        SevenNet's own replacement of the cell vectors of a slab assumes the slab to lie flat.
        """
        cutoff = self.network.cutoff
        arrays = unlabeled_atoms_to_graph(periodic(atoms, 2 * cutoff), cutoff)
        vectors = torch.from_numpy(arrays["edge_vec"]).to(self.dtype)
        graph = AtomGraphData.from_numpy_dict(arrays)
        graph.edge_vec = vectors
        if self.modal:
            graph.data_modality = self.modal
        return graph

    def run(self, graphs: list[AtomGraphData]) -> None:
        """One forward pass."""
        self.network(Batch.from_data_list(graphs).to(self.device))

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """One map without bias, times the scale that all elements share."""
        linear = self.network.reduce_hidden_to_energy.linear
        scale = self.network.rescale_atomic_energy.scale.flatten()[0]
        weights = scale * linear.weight / linear.irreps_in.dim**0.5  # as in e3nn
        return weights.numpy(force=True)[:, None], np.zeros(1)

    def untrained(self, seed: int) -> AtomGraphSequential:
        """The same architecture with freshly drawn weights."""
        layers = self.network.named_children()
        # which older checkpoints keep among the weights alone
        denominators = [m.denominator.item() for k, m in layers if k.endswith("convolution")]
        config = {**self.config, "conv_denominator": denominators}
        with seeded(seed):
            return build_E3_equivariant_model(config)


def load(name: str, entry: dict) -> SevenNetModel:
    """A checkpoint of the sevenn package, pickled there and checked before it is read, or a file.

    Raises
    ------
    InputError
        A network of several modalities needs one of them, any other none.
    """
    path = entry.get("path") or check_sha256(FOLDER / entry["file"], entry["sha256"])
    checkpoint, modal = SevenNetCheckpoint(path), entry.get("modal", "")
    known = [*checkpoint.config.get("_modal_map", {})]
    if modal not in (known or [""]):
        known = ", ".join(known) or "(it has none)"
        raise InputError(f"{name}: needs one of its modalities {known}, as FILE:MODALITY.")
    return SevenNetModel(checkpoint.build_model(), name, modal, checkpoint.config)
