"""MACE: invariant node features of every interaction, inputs of every readout's last linear map."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import write

from ..resources import DATA, InputError, sha256, verified, write_whole, written_whole
from .base import LAYERS, Adapter, Course, numbered, periodic, recorded

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import mace.modules  # first: it lets e3nn load its constants
    from e3nn import o3
    from mace.data import AtomicData, config_from_atoms
    from mace.tools import AtomicNumberTable, torch_geometric
    from mace.tools.scripts_utils import extract_config_mace_model
    from mace.tools.torch_tools import default_dtype
    from safetensors.torch import load_file, save

# what mace-torch's trainer is told whatever the protocol
FINE_TUNING = {
    "foundation_model_elements": True,
    "force_mh_ft_lr": True,
    "loss": "universal",
    "energy_weight": 10.0,
    "forces_weight": 100.0,
    "stress_weight": 100.0,
    "compute_stress": True,
    "huber_delta": 0.1,
    "clip_grad": 10.0,
    "scheduler": "ExponentialLR",
    "default_dtype": "float32",
}


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
        self.last_maps = [last_map(readout) for readout in network.readouts]
        self.inputs = {f"readout-{i}": linear for i, linear in enumerate(self.last_maps)}
        self.outputs = numbered(network.products)
        columns = {name: scalar_columns(p.linear.irreps_out) for name, p in self.outputs.items()}
        read = map(self.read_columns, network.readouts)
        self.columns = columns | dict(zip(self.inputs, read, strict=True))

    def read_columns(self, readout: torch.nn.Module) -> np.ndarray:
        """Columns of the input of a readout's last linear map that this head's energy depends on.

        The hidden layer has a block for every head, and all but the read one are masked.
        """
        columns = scalar_columns(last_map(readout).irreps_in)
        n_blocks = len(self.heads) if hasattr(readout, "linear_2") else 1
        return np.split(columns, n_blocks)[self.heads.index(self.head) if n_blocks > 1 else 0]

    def graph(self, atoms: Atoms) -> AtomicData:
        """MACE's own graph with this checkpoint's cutoff and species.

        MACE would take the cell of a molecule twenty times too large, and fail with far atoms.
        """
        atoms = periodic(atoms, 2 * float(self.network.r_max))
        with default_dtype(self.dtype):
            return AtomicData.from_config(
                config_from_atoms(atoms, head_name=self.head),
                z_table=AtomicNumberTable(self.elements.tolist()),
                cutoff=float(self.network.r_max),
                heads=self.heads,
            )

    def features(self, graphs: Sequence[AtomicData]) -> dict[str, np.ndarray]:
        """Read the invariants of all layers off one forward pass."""
        batch = torch_geometric.Batch.from_data_list(list(graphs))
        with default_dtype(self.dtype), recorded(self.inputs, self.outputs) as found:
            self.network(batch.to_dict(), compute_force=False)
        parts = {name: found[name][:, c].cpu().numpy() for name, c in self.columns.items()}
        interactions = {name: parts[name] for name in self.outputs}
        backbone = np.concatenate(list(interactions.values()), axis=1)
        last = np.concatenate([parts[name] for name in self.inputs], axis=1)
        return {"backbone": backbone, "last": last, **interactions}

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        batch = torch_geometric.Batch.from_data_list([self.prepare(atoms)])
        found = self.network(batch.to_dict(), compute_force=True)
        return found["energy"].item() / len(atoms), found["forces"].detach().numpy()

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the reference energies."""
        table = self.network.atomic_energies_fn.atomic_energies
        table += torch.tensor(energies[self.elements], dtype=table.dtype)

    def save(self, path: Path, **about: Any) -> None:
        """Write the weights as safetensors and beside them a JSON card, for `from_file`.

        Next to `about` stand ``head``, ``parameters``, ``widths``, the ``sha256``, and mace-torch's
        own description of the network, `architecture`. The card comes first: weights never lack it.
        """
        state = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        card = about | {
            "head": self.head,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "widths": {layer: self.widths[layer] for layer in LAYERS},
        }
        with written_whole(path) as weights:
            weights.write_bytes(save(state))
            card |= {"sha256": sha256(weights), "architecture": architecture(self.network)}
            write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")

    def restored(self, path: Path, name: str) -> MaceModel:
        """The model of the card beside the weights, which may have one head more than this one."""
        return from_file(path, name)

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        return build_network(architecture(self.network), seed)

    def train_on(self, course: Course) -> Iterator[tuple[int, MaceModel]]:
        """Train with mace-torch's own trainer and read its checkpoints; see `TrainableModel`.

        An interrupted training starts again: mace-torch would go on with its batches in another
        order.
        """
        training, replay, shift, _, _, epochs, learning_rate, batch_size, seed = course
        foundation = copy.deepcopy(self.network)
        self.shift_elements(shift)
        yield 0, self
        energies = self.network.atomic_energies_fn.atomic_energies.reshape(-1).tolist()
        trains_all = all(parameter.requires_grad for parameter in self.network.parameters())
        parts = {"train": training, "valid": training[:batch_size]}  # nothing is decided on it
        if len(replay):
            parts |= {"pt_train": replay, "pt_valid": replay[:batch_size]}
        with TemporaryDirectory(prefix="umlip-latents-") as scratch:
            # the trainer takes the energies per element from the start, whatever E0s says, unless
            # there is a second readout
            start = foundation if len(replay) else self.network
            settings = FINE_TUNING | {
                "multiheads_finetuning": bool(len(replay)),
                "E0s": str(dict(zip(self.elements.tolist(), energies, strict=True))),
                "freeze": 0 if trains_all else 6,
                "lr": learning_rate,
                "lr_scheduler_gamma": 0.01 ** (1 / epochs),
                "batch_size": batch_size,
                "valid_batch_size": batch_size,
                "max_num_epochs": epochs,
                "seed": seed,
            }
            network = trained(Path(scratch), parts, settings, start)
            for epoch in range(1, epochs + 1):
                file = Path(scratch) / "checkpoints" / f"run_run-{seed}_epoch-{epoch - 1}.pt"
                state = torch.load(file, map_location="cpu", weights_only=True)["model"]
                network.load_state_dict(state)
                yield epoch, MaceModel(network, self.name, "Default")  # not the head of the replay


def trained(
    folder: Path,
    parts: Mapping[str, Sequence[Atoms]],
    settings: dict,
    start: torch.nn.Module | None = None,
) -> torch.nn.Module:
    """What mace-torch's own trainer leaves of a run in a folder.

    Parameters
    ----------
    folder
        For everything that the trainer writes, and unpickles again: empty, and nobody else's.
    parts
        Labelled structures of its arguments ``train_file``, ``valid_file`` and so on.
    settings
        Further arguments of the trainer by name.
    start
        A network whose weights are trained on.

    Raises
    ------
    InputError
        The trainer stops, where the memory or the disk is full, for example.
    """
    from mace.cli.run_train import run  # a heavy library
    from mace.tools import build_default_arg_parser

    files = {f"{name}_file": str(folder / f"{name}.xyz") for name in parts}
    given = {"work_dir": str(folder), "save_all_checkpoints": True, **files, **settings}
    try:
        if start is not None:
            given["foundation_model"] = str(folder / "start.model")
            torch.save(start, given["foundation_model"])  # the trainer reads nothing but pickle
        for name, part in parts.items():
            write(files[f"{name}_file"], [labelled(atoms) for atoms in part])
        run(build_default_arg_parser().parse_args(["--name=run"], Namespace(**given)))
        return load_pickled(folder / "run.model").to("cpu")
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as the latter
        why = shorten(str(error), 100)
        raise InputError(f"{folder}: mace-torch's trainer stops there ({why}).") from error


def labelled(atoms: Atoms) -> Atoms:
    """A copy whose labels stand under the keys that mace-torch reads."""
    copied = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copied.info["REF_energy"] = atoms.get_potential_energy()
    copied.arrays["REF_forces"] = atoms.get_forces()
    if "stress" in atoms.calc.results:
        copied.info["REF_stress"] = atoms.get_stress(voigt=False).ravel()
    return copied


def last_map(readout: torch.nn.Module) -> torch.nn.Module:
    """A readout's last linear map: `linear_2` after the hidden layer, or the only one."""
    return getattr(readout, "linear_2", None) or readout.linear


def scalar_columns(irreps: o3.Irreps) -> np.ndarray:
    """The columns of the even scalars."""
    irreps = o3.Irreps(str(irreps))
    return np.flatnonzero(np.concatenate([[str(ir) == "0e"] * (n * ir.dim) for n, ir in irreps]))


def architecture(network: torch.nn.Module) -> dict:
    """mace-torch's own description of the network as plain values, classes by name."""
    found = {}
    for key, value in extract_config_mace_model(network).items():
        if isinstance(value, np.ndarray | torch.Tensor):
            value = value.tolist()
        elif isinstance(value, o3.Irreps):
            value = str(value)
        found[key] = value.__name__ if callable(value) else value  # a class or a function
    return found


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
    with torch.random.fork_rng(), default_dtype(torch.float32), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e3nn's TorchScript warns once per module
        torch.manual_seed(seed)
        return mace.modules.ScaleShiftMACE(**a)


def load_pickled(path: Path) -> torch.nn.Module:
    """A network pickled by mace-torch. Runs code from the file: the caller vouches for it."""
    return torch.load(path, map_location="cpu", weights_only=False)


def load(name: str, entry: dict) -> MaceModel:
    """A shipped checkpoint, or a foundation model, pickled by its makers."""
    if "path" in entry:
        return MaceModel(load_pickled(entry["path"]), name, entry.get("head"))
    return from_file(verified(DATA / entry["file"], entry["sha256"]), name)


def from_file(path: Path, name: str | None = None) -> MaceModel:
    """A MACE in safetensors with its card, or a pickled one, which the caller vouches for."""
    name = name or path.stem
    if path.suffix != ".safetensors":
        return MaceModel(load_pickled(path), name)
    card = read_card(path)
    network = copy.deepcopy(pattern(json.dumps(card["architecture"])))
    network.load_state_dict(load_file(path))
    return MaceModel(network, name, card.get("head"))


@lru_cache(8)
def pattern(architecture: str) -> torch.nn.Module:
    """A network to copy, since compiling one takes ten times as long."""
    return build_network(json.loads(architecture))


def read_card(path: Path) -> dict:
    """The JSON card beside weights that are those it was written for."""
    file = path.with_suffix(".json")
    if not file.is_file():
        raise InputError(f"{path}: its JSON card {file.name} is missing.")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: is not JSON ({error}).") from None
    if not isinstance(card, dict) or not isinstance(card.get("architecture"), dict):
        raise InputError(f"{file}: is not the card of a MACE, it has no architecture.")
    verified(path, card.get("sha256"), f"its card {file.name} says")
    return card
