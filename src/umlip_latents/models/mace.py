"""MACE: invariant node features of every interaction, inputs of every readout's last linear map."""

import contextlib
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..resources import DATA, InputError, check_sha256, write_file
from .base import LAYERS, Adapter, capture_activations, interaction_names, periodic, seeded

with warnings.catch_warnings(), contextlib.redirect_stdout(None):
    warnings.simplefilter("ignore")
    import mace.modules  # first: it lets e3nn load its constants
    from e3nn import o3
    from mace.data import AtomicData, config_from_atoms
    from mace.tools import AtomicNumberTable, torch_geometric
    from mace.tools.scripts_utils import extract_config_mace_model
    from mace.tools.torch_tools import default_dtype
    from safetensors.torch import load_file, save


class MaceModel(Adapter):
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
    replays = True

    def __init__(self, network: torch.nn.Module, name: str, head: str | None = None) -> None:
        self.heads = list(getattr(network, "heads", ["Default"]))
        self.head = self.heads[0] if head is None and len(self.heads) == 1 else head
        if self.head not in self.heads:
            raise InputError(f"{name}: needs one of its heads {', '.join(self.heads)}, not {head}.")
        about = {"architecture": architecture(network), "head": self.head}
        super().__init__(network, name, network.atomic_numbers.tolist(), about)
        self.outputs = interaction_names(network.products)
        self.columns = {n: scalar_columns(p.linear.irreps_out) for n, p in self.outputs.items()}
        self.inputs = {}
        for i, readout in enumerate(network.readouts):
            hidden = hasattr(readout, "linear_2")
            linear = self.inputs[f"readout-{i}"] = readout.linear_2 if hidden else readout.linear
            columns = scalar_columns(linear.irreps_in)
            if hidden:  # which has a block for every head, and all but the read one are masked
                columns = np.split(columns, len(self.heads))[self.heads.index(self.head)]
            self.columns[f"readout-{i}"] = columns

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

    def forward(self, graphs: list[AtomicData]) -> dict[str, torch.Tensor]:
        """The invariants of every interaction, and what the readouts' last maps take."""
        with default_dtype(self.dtype), capture_activations(self.inputs, self.outputs) as found:
            self.network(self.batch(graphs), compute_force=False)
        parts = {name: found[name][:, columns] for name, columns in self.columns.items()}
        interactions = {name: parts[name] for name in self.outputs}
        backbone = torch.cat(list(interactions.values()), dim=1)
        last = torch.cat([parts[name] for name in self.inputs], dim=1)
        return {"backbone": backbone, "last": last, **interactions}

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.network(self.batch([self.prepare(atoms)]), compute_force=True)
        return found["energy"].item() / len(atoms), found["forces"].detach().cpu().numpy()

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the reference energies."""
        table = self.network.atomic_energies_fn.atomic_energies
        table += torch.as_tensor(energies[self.elements]).to(table)

    def save(self, path: str | Path, **about: Any) -> None:
        """Write the weights as safetensors and beside them a JSON card, for `from_file`.

        Next to `about` stand ``head``, ``parameters``, ``widths``, the ``sha256``, and mace-torch's
        own description of the network, `architecture`. The card comes first: weights never lack it.
        """
        path, state = Path(path), self.network.state_dict()
        weights = save({key: w.detach().cpu().contiguous() for key, w in state.items()})
        card = about | {
            "head": self.head,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "widths": {layer: self.widths[layer] for layer in LAYERS},
            "sha256": hashlib.sha256(weights).hexdigest(),
            "architecture": architecture(self.network),
        }
        write_file(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
        write_file(path, weights)

    def restored(self, path: Path, name: str) -> "MaceModel":
        """The model of the card beside the weights, which may have one head more than this one."""
        return from_file(path, name)

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        return build_network(architecture(self.network), seed)


def scalar_columns(irreps: o3.Irreps) -> np.ndarray:
    """The columns of the even scalars."""
    irreps = o3.Irreps(str(irreps))
    return np.flatnonzero(np.concatenate([[str(ir) == "0e"] * (n * ir.dim) for n, ir in irreps]))


def architecture(network: torch.nn.Module) -> dict:
    """mace-torch's own description of the network as plain values, classes by name."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | torch.Tensor):
            return value.tolist()
        return str(value) if isinstance(value, o3.Irreps) else getattr(value, "__name__", value)

    config = extract_config_mace_model(network)
    return {key: plain(value) for key, value in config.items()}


def build_network(architecture: dict, seed: int = 0) -> torch.nn.Module:
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


def load_pickled(path: Path) -> torch.nn.Module:
    """A network pickled by mace-torch. Runs code from the file: the caller vouches for it."""
    return torch.load(path, map_location="cpu", weights_only=False)


def load(name: str, entry: dict) -> MaceModel:
    """A shipped checkpoint, or a foundation model, pickled by its makers."""
    if "path" in entry:
        return MaceModel(load_pickled(entry["path"]), name, entry.get("head"))
    return from_file(DATA / entry["file"], name)


def from_file(path: Path, name: str | None = None) -> MaceModel:
    """A MACE in safetensors with its card, or a pickled one, which the caller vouches for."""
    name = name or path.stem
    if path.suffix != ".safetensors":
        return MaceModel(load_pickled(path), name)
    file = path.with_suffix(".json")
    card = json.loads(file.read_text(encoding="utf-8"))
    check_sha256(path, card["sha256"], f"its card {file.name} says")
    network = build_network(card["architecture"])
    network.load_state_dict(load_file(path))
    return MaceModel(network, name, card.get("head"))
