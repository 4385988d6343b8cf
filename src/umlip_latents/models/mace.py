"""MACE: invariant node features of every interaction, inputs of every readout's last linear map."""

import contextlib
import warnings
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..resources import DATA, InputError
from .base import Activation, TrainableAdapter, interaction_names, periodic, seeded

with warnings.catch_warnings(), contextlib.redirect_stdout(None):
    warnings.simplefilter("ignore")
    import mace.modules  # first: it lets e3nn load its constants
    from e3nn import o3
    from mace.data import AtomicData, config_from_atoms
    from mace.tools import AtomicNumberTable, torch_geometric
    from mace.tools.scripts_utils import extract_config_mace_model
    from mace.tools.torch_tools import default_dtype


class MaceModel(TrainableAdapter):
    """Latent features of a MACE network, on the energy path only.

    Parameters
    ----------
    network
        Any MACE of mace-torch with energy readouts.
    name
        Name shown in tables.
    head
        Which head of a multi-head network reads the energy; needed if there is more than one.
    """

    readout = "readouts."

    def __init__(self, network: torch.nn.Module, name: str, head: str | None = None) -> None:
        self.heads = list(getattr(network, "heads", ["Default"]))
        self.head = self.heads[0] if head is None and len(self.heads) == 1 else head
        if self.head not in self.heads:
            known = ", ".join(self.heads)
            raise InputError(f"{name}: needs one of its heads {known}, as FILE:HEAD, not {head}.")
        self.network = network
        about = {"architecture": self.architecture, "head": self.head}
        super().__init__(network, name, network.atomic_numbers.tolist(), about)
        backbone = [Activation(p, scalars(p.linear.irreps_out), True) for p in network.products]
        last = []
        for readout in network.readouts:
            hidden = hasattr(readout, "linear_2")
            linear = readout.linear_2 if hidden else readout.linear
            # a hidden layer has a block for every head, and all but the read one are masked
            block = (self.heads.index(self.head), len(self.heads)) if hidden else ()
            last.append(Activation(linear, scalars(linear.irreps_in, *block)))
        interactions = interaction_names([part] for part in backbone)
        self.layers = {"backbone": backbone, "last": last, **interactions}

    @property
    def architecture(self) -> dict:
        """mace-torch's own description of the network as plain values, classes by name."""

        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray | torch.Tensor):
                return value.tolist()
            return str(value) if isinstance(value, o3.Irreps) else getattr(value, "__name__", value)

        config = extract_config_mace_model(self.network)
        return {key: plain(value) for key, value in config.items()}

    def graph(self, atoms: Atoms) -> AtomicData:
        """MACE's own graph with this checkpoint's cutoff and species.

        MACE would take the cell of a molecule twenty times too large, and fail with far atoms.
        """
        cutoff, species = float(self.network.r_max), AtomicNumberTable(self.elements.tolist())
        config = config_from_atoms(periodic(atoms, 2 * cutoff), head_name=self.head)
        with default_dtype(self.dtype):
            return AtomicData.from_config(config, species, cutoff, heads=self.heads)

    def batch(self, graphs: list[AtomicData]) -> dict[str, torch.Tensor]:
        """What the network is called with."""
        return torch_geometric.Batch.from_data_list(graphs).to(self.device).to_dict()

    def run(self, graphs: list[AtomicData]) -> None:
        """One forward pass."""
        self.network(self.batch(graphs), compute_force=False)

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.network(self.batch([self.prepare(atoms)]), compute_force=True)
        return found["energy"].item() / len(atoms), found["forces"].detach().cpu().numpy()

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """The last maps of all readouts, whose outputs are added up, rescaled and shifted."""
        head, rescale, maps = self.heads.index(self.head), self.network.scale_shift, []
        for linear, select, _ in self.layers["last"]:
            basis = torch.eye(linear.irreps_in.dim, dtype=self.dtype, device=self.device)
            maps.append(linear(select(basis).T)[:, head].numpy(force=True))
        scale, shift = (x.flatten()[head].item() for x in (rescale.scale, rescale.shift))
        return scale * np.concatenate(maps)[:, None], np.array([shift])

    @staticmethod
    def build(architecture: dict, seed: int = 0) -> torch.nn.Module:
        """A MACE of an `architecture` with freshly drawn weights."""
        a = dict(architecture)
        for key in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
            a[key] = o3.Irreps(a[key]) if a[key] else None
        for key in ("interaction_cls", "interaction_cls_first"):
            a[key] = mace.modules.interaction_classes[a[key]]
        a["readout_cls"] = mace.modules.readout_classes[a["readout_cls"]]
        a["gate"] = mace.modules.gate_dict[str(a["gate"])]  # none with linear readouts alone
        a["atomic_energies"] = np.array(a["atomic_energies"])
        with seeded(seed), default_dtype(torch.float32), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e3nn's TorchScript warns once per module
            return mace.modules.ScaleShiftMACE(**a)

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the reference energies."""
        table = self.network.atomic_energies_fn.atomic_energies
        table += torch.as_tensor(energies[self.elements]).to(table)


def scalars(irreps: o3.Irreps, block: int = 0, n_blocks: int = 1) -> itemgetter:
    """What takes the columns of the even scalars, or one of several blocks of them."""
    even = [[str(ir) == "0e"] * (n * ir.dim) for n, ir in o3.Irreps(str(irreps))]
    columns = np.flatnonzero(np.concatenate(even))
    return itemgetter((slice(None), np.split(columns, n_blocks)[block]))


def load_pickled(path: Path) -> torch.nn.Module:
    """A network pickled by mace-torch. Runs code from the file: the caller vouches for it."""
    return torch.load(path, map_location="cpu", weights_only=False)


def load(name: str, entry: dict) -> MaceModel:
    """What `save` wrote, such as a checkpoint that ships, or what mace-torch pickled."""
    path = entry.get("path") or DATA / entry["file"]
    read = MaceModel.restore if path.suffix == ".safetensors" else load_pickled
    return MaceModel(read(path), name, entry.get("head"))
