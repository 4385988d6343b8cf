"""MACE: invariant node features of every interaction, inputs of every readout's last linear map."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from ..resources import DATA, InputError, check, fetch, sha256, written_whole
from .base import LAYERS, recorded, refuse_elements, weights_fingerprint

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import mace
    import mace.modules
    from e3nn import o3
    from mace.data import AtomicData, config_from_atoms
    from mace.tools import AtomicNumberTable, torch_geometric
    from mace.tools.scripts_utils import extract_config_mace_model
    from mace.tools.torch_tools import default_dtype
    from safetensors.torch import load_file as load_safetensors
    from safetensors.torch import save_file as save_safetensors


class MaceModel:
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

    HEAD = "readouts."  # what the names of the readouts' weights begin with

    def __init__(self, network: torch.nn.Module, name: str, head: str | None = None) -> None:
        self.name = name
        self.network = network.eval()
        self.fingerprint = weights_fingerprint(network)
        self.dtype = next(network.parameters()).dtype
        self.species = AtomicNumberTable([int(z) for z in network.atomic_numbers])
        self.heads = list(getattr(network, "heads", ["Default"]))
        self.head = self.heads[0] if head is None and len(self.heads) == 1 else head
        if self.head not in self.heads:
            raise InputError(f"{name}: needs one of its heads {', '.join(self.heads)}, not {head}.")
        self.last_maps = [last_map(readout) for readout in network.readouts]
        self.inputs = {f"readout-{i}": linear for i, linear in enumerate(self.last_maps)}
        self.outputs = {f"interaction-{i}": p for i, p in enumerate(network.products, start=1)}
        interactions = {k: n_scalars(p.linear.irreps_out) for k, p in self.outputs.items()}
        self.widths = {
            "backbone": sum(interactions.values()),
            "last": sum(len(self.read_columns(readout)) for readout in network.readouts),
            **interactions,
        }

    def read_columns(self, readout: torch.nn.Module) -> np.ndarray:
        """Columns of the input of a readout's last linear map that this head's energy depends on.

        The hidden layer has a block for every head, and all but the read one are masked.
        """
        columns = scalar_columns(last_map(readout).irreps_in)
        n_blocks = len(self.heads) if hasattr(readout, "linear_2") else 1
        return np.split(columns, n_blocks)[self.heads.index(self.head) if n_blocks > 1 else 0]

    def prepare(self, atoms: Atoms) -> AtomicData:
        """MACE's own graph with this checkpoint's cutoff and species."""
        refuse_elements(atoms, np.array(self.species.zs), self.name)
        # labels that happen to be there are not read
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        with default_dtype(self.dtype):
            return AtomicData.from_config(
                config_from_atoms(bare, head_name=self.head),
                z_table=self.species,
                cutoff=float(self.network.r_max),
                heads=self.heads,
            )

    def size(self, graph: AtomicData) -> int:
        """Directed edges."""
        return graph.edge_index.shape[1]

    def features(self, graphs: Sequence[AtomicData]) -> dict[str, np.ndarray]:
        """Read the invariants of all layers off one forward pass."""
        batch = torch_geometric.Batch.from_data_list(list(graphs))
        with (
            torch.no_grad(),
            default_dtype(self.dtype),
            recorded(self.inputs, self.outputs) as found,
        ):
            self.network(batch.to_dict(), compute_force=False)
        interactions = {
            name: found[name][:, scalar_columns(product.linear.irreps_out)].cpu().numpy()
            for name, product in self.outputs.items()
        }
        read = [
            found[name][:, self.read_columns(readout)].cpu().numpy()
            for name, readout in zip(self.inputs, self.network.readouts, strict=True)
        ]
        return {
            "backbone": np.concatenate(list(interactions.values()), axis=1),
            "last": np.concatenate(read, axis=1),
            **interactions,
        }

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        batch = torch_geometric.Batch.from_data_list([self.prepare(atoms)])
        found = self.network(batch.to_dict(), compute_force=True)
        return found["energy"].item() / len(atoms), found["forces"].detach().numpy()

    def element_energies(self) -> dict[int, float]:
        """Reference energy of each element in eV, by atomic number."""
        table = self.network.atomic_energies_fn.atomic_energies.reshape(-1).tolist()
        return dict(zip(self.species.zs, table, strict=True))

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the reference energies."""
        table = self.network.atomic_energies_fn.atomic_energies
        table += torch.tensor(energies[self.species.zs], dtype=table.dtype)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, with a card."""
        save_network(self.network, path, {"head": self.head})

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        return build_network({"architecture": architecture(self.network)}, seed)


def last_map(readout: torch.nn.Module) -> torch.nn.Module:
    """A readout's last linear map: `linear_2` after the hidden layer, or the only one."""
    return getattr(readout, "linear_2", None) or readout.linear


def n_scalars(irreps: o3.Irreps) -> int:
    """Number of even scalars."""
    return o3.Irreps(str(irreps)).count("0e")


def scalar_columns(irreps: o3.Irreps) -> np.ndarray:
    """The columns of the even scalars."""
    irreps = o3.Irreps(str(irreps))
    columns = np.arange(irreps.dim)
    return np.concatenate(
        [columns[s] for s, (_, ir) in zip(irreps.slices(), irreps, strict=True) if str(ir) == "0e"]
    )


def architecture(network: torch.nn.Module) -> dict:
    """mace-torch's own description of the network as plain values, classes by name."""
    found = {}
    for key, value in extract_config_mace_model(network).items():
        if isinstance(value, type):
            value = value.__name__
        elif isinstance(value, o3.Irreps):
            value = str(value)
        elif isinstance(value, np.ndarray | torch.Tensor):
            value = value.tolist()
        elif callable(value):
            value = value.__name__
        elif isinstance(value, torch.nn.Module):
            raise InputError(f"A network's {key} cannot be described.")
        found[key] = value
    return found


def save_network(network: torch.nn.Module, path: Path, card: dict) -> None:
    """Write ``path`` (safetensors) and its JSON card, from which `load_network` rebuilds it.

    Next to what is in `card` stand ``parameters``, ``widths``, the ``sha256``, and mace-torch's own
    description of the network, `architecture`.
    """
    description = architecture(network)
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with written_whole(path) as temporary:
        save_safetensors(state, temporary)
    widths = MaceModel(network, path.stem, card.get("head")).widths
    found = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "widths": {layer: widths[layer] for layer in LAYERS},
        "sha256": sha256(path),
        "architecture": description,
    }
    with written_whole(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({**card, **found}, indent=1) + "\n")


def build_network(card: dict, seed: int = 0) -> torch.nn.Module:
    """A MACE of the card's architecture with freshly drawn weights."""
    a = dict(card["architecture"])
    for key in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        a[key] = o3.Irreps(a[key]) if a[key] else None
    for key in ("interaction_cls", "interaction_cls_first"):
        a[key] = mace.modules.interaction_classes[a[key]]
    a["readout_cls"] = mace.modules.readout_classes[a["readout_cls"]]
    a["gate"] = mace.modules.gate_dict[str(a["gate"])]  # none with linear readouts alone
    a["atomic_energies"] = np.array(a["atomic_energies"])
    with (
        torch.random.fork_rng(),
        default_dtype(torch.float32),
        warnings.catch_warnings(),  # e3nn's TorchScript warns once per module
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return mace.modules.ScaleShiftMACE(**a)


def load_network(path: Path) -> torch.nn.Module:
    """A MACE from safetensors and the JSON card beside it."""
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise InputError(f"{path}: its JSON card {card_path.name} is missing.")
    network = build_network(json.loads(card_path.read_text(encoding="utf-8")))
    network.load_state_dict(load_safetensors(path))
    return network


def load_pickled(path: Path) -> torch.nn.Module:
    """A network pickled by mace-torch. Runs code from the file: the caller vouches for it."""
    return torch.load(path, map_location="cpu", weights_only=False)


def load(name: str, entry: dict) -> MaceModel:
    """A shipped checkpoint, a twin of it with weights drawn from a seed, or a foundation model."""
    if "url" in entry:  # pickled by its makers, loaded by name once its SHA-256 is right
        path = fetch(entry["file"], entry["url"], entry.get("sha256"))
        return MaceModel(load_pickled(path), name, entry.get("head"))
    path = DATA / entry["file"]
    if "seed" in entry:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return MaceModel(build_network(card, entry["seed"]), name)
    return MaceModel(load_network(check(path, entry["sha256"])), name)


def from_file(path: Path) -> MaceModel:
    """A MACE in safetensors with its card, or a pickled one, which the caller vouches for."""
    if path.suffix != ".safetensors":
        return MaceModel(load_pickled(path), path.stem)
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return MaceModel(load_network(path), path.stem, card.get("head"))
