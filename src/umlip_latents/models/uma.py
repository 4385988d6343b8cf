"""UMA and eSEN of fairchem: l = 0 part of the node embedding, input of the energy head's last map.

A task steers UMA from its first layer on, through an embedding and the mixture of its experts:
every task of a checkpoint is a model of its own.
"""

from ase import Atoms
from fairchem.core import pretrained_mlip
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.models.base import HydraModel
from fairchem.core.units.mlip_unit import InferenceSettings

from .base import Activation, Adapter, estimated_edges, periodic

# one model for structures of any composition, in single precision, and nothing but the energy
SETTINGS = InferenceSettings(
    activation_checkpointing=False, merge_mole=False, auto_add_default_untrained_tasks=False
)


class UmaModel(Adapter):
    """Latent features of a fairchem model with an eSCN-MD backbone, on the energy path only.

    Parameters
    ----------
    network
        Backbone and heads.
    task
        One of the network's data sets, such as ``omat``.
    name
        Name shown in tables.
    """

    def __init__(self, network: HydraModel, task: str, name: str) -> None:
        self.task, self.backbone = task, network.backbone
        about = {"cutoff": self.backbone.cutoff, "task": task}
        tasks = [t for t in network.tasks.values() if t.property == "energy" and task in t.datasets]
        # the elements of its data: those to which the task's energy has a reference
        known = tasks[0].element_references.element_references.flatten().nonzero()
        super().__init__(network, name, known.ravel().tolist(), about)
        gradients = self.backbone.regress_config
        gradients.forces = gradients.stress = gradients.hessian = False
        heads = network.output_heads.modules()
        readout = next(head.energy_block for head in heads if hasattr(head, "energy_block"))
        self.last_map = [m for m in readout.modules() if hasattr(m, "in_features")][-1]
        invariants = Activation(self.backbone, lambda out: out["node_embedding"][:, 0], True)
        self.layers = {"backbone": [invariants], "last": [Activation(self.last_map)]}

    def graph(self, atoms: Atoms) -> AtomicData:
        """Positions and cell, with vacuum where a structure is not periodic; neutral, spin paired.

        The edges are found by the network itself.
        """
        boxed = periodic(atoms, 2 * self.backbone.cutoff)
        # what fairchem's calculator takes where nothing is said: the multiplicity counts for omol
        boxed.info = {"charge": 0, "spin": 1 if self.task == "omol" else 0}
        return AtomicData.from_ase(
            boxed, task_name=self.task, r_data_keys=["charge", "spin"], target_dtype=self.dtype
        )

    def size(self, graph: AtomicData) -> int:
        """Directed edges, estimated from the density."""
        atoms = Atoms(graph.atomic_numbers.numpy(), cell=graph.cell[0].numpy())
        return estimated_edges(atoms, self.backbone.cutoff)

    def run(self, graphs: list[AtomicData]) -> None:
        """One forward pass."""
        self.network(atomicdata_list_to_batch(graphs).to(self.device))


def load(name: str, entry: dict) -> UmaModel:
    """A published checkpoint, which fairchem fetches with its reader's Hugging Face account."""
    unit = pretrained_mlip.get_predict_unit(entry["checkpoint"], SETTINGS, device="cpu")
    return UmaModel(unit.model.module, entry["task"], name)
