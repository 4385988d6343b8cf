"""CHGNet: backbone after the last convolution and readout norm, last layer of the readout MLP."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from pymatgen.core import Lattice, Structure
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from ..resources import verified, written_whole
from .base import Adapter, Course, Unsupported, periodic, recorded, weights_file

with contextlib.redirect_stdout(io.StringIO()):
    import chgnet
    from chgnet.graph import CrystalGraph
    from chgnet.model import CHGNet

SUPPORTED = np.arange(1, 95)


class ChgnetModel(Adapter):
    """Latent features of a `chgnet.model.CHGNet`, on the energy path only.

    Parameters
    ----------
    network
        Any CHGNet whose MLP comes before the pooling (all published ones).
    name
        Name shown in tables.
    """

    readout = "mlp."
    replays = False

    def __init__(self, network: CHGNet, name: str) -> None:
        super().__init__(network, name, SUPPORTED)
        self.inputs = {"backbone": network.mlp, "last": network.mlp.layers[-1]}
        convolutions = enumerate(network.atom_conv_layers, start=1)
        self.outputs = {f"interaction-{i}": layer for i, layer in convolutions}

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """CHGNet's own graph, with the cutoffs of this very checkpoint."""
        converter = self.network.graph_converter
        cutoffs = converter.atom_graph_cutoff, converter.bond_graph_cutoff
        lattice = Lattice(periodic(atoms, 2 * cutoffs[0]).cell.array)
        structure = Structure(lattice, atoms.numbers, atoms.positions, coords_are_cartesian=True)
        return crystal_graph(structure, *cutoffs, self.name)

    def size(self, graph: CrystalGraph) -> int:
        """Directed edges of the atom graph plus angles."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def features(self, graphs: Sequence[CrystalGraph]) -> dict[str, np.ndarray]:
        """Read all layers off one forward pass: around and inside the readout MLP, convolutions."""
        with torch.inference_mode(), recorded(self.inputs, self.outputs) as found:
            self.network(list(graphs), task="e")
        return {layer: found[layer].cpu().numpy() for layer in (*self.inputs, *self.outputs)}

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.network([self.prepare(atoms)], task="ef")
        return found["e"].item(), found["f"][0].detach().numpy()

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the composition model."""
        weight = self.network.composition_model.fc.weight
        with torch.no_grad():
            weight += torch.tensor(energies[SUPPORTED], dtype=weight.dtype)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        with written_whole(path) as temporary:
            save_file(self.network.state_dict(), temporary)

    def restored(self, path: Path, name: str) -> ChgnetModel:
        """The same architecture with the weights that `save` wrote."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(load_file(path))
        return ChgnetModel(network, name)

    def untrained(self, seed: int) -> CHGNet:
        """The same architecture with freshly drawn weights."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return quietly(CHGNet, **self.network.model_args)

    def train_on(self, course: Course) -> Iterator[tuple[int, ChgnetModel]]:
        """Train with the loss of CHGNet's own trainer and Adam; see `TrainableModel`.

        The order of the batches and the learning rate follow from seed and epoch alone, and the
        moments of Adam are kept: an interrupted training goes on exactly as it would have.
        """
        from chgnet.trainer.trainer import CombinedLoss  # a heavy library

        training, _, shift, hyperparameters, folder, first = course
        epochs, learning_rate, batch_size, seed = hyperparameters
        network = self.network
        network.composition_model.requires_grad_(False)
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
        if first:
            network.load_state_dict(load_file(weights_file(folder, first - 1)))
        else:
            self.shift_elements(shift)
            yield 0, self
        if first > 1:
            load_optimizer(optimizer, optimizer_file(folder, first - 1))
        graphs = [self.prepare(a) for a in training]
        labels = [targets(a) for a in training]
        task = "efs" if all("s" in label for label in labels) else "ef"
        loss_of = CombinedLoss(target_str=task, criterion="Huber", allow_missing_labels=False)
        n_batches = -(-len(training) // batch_size)
        for epoch in tqdm(range(first or 1, epochs + 1), desc=self.name, unit="epoch"):
            network.train()
            order = np.random.default_rng([seed, epoch]).permutation(len(training))
            for step, batch in enumerate(np.array_split(order, n_batches)):
                progress = (epoch - 1 + step / n_batches) / epochs
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * (0.505 + 0.495 * np.cos(np.pi * progress))
                found = network([graphs[i] for i in batch], task=task)
                found["e"] = found["e"].reshape(-1)
                wanted = {key: [labels[i][key] for i in batch] for key in task}
                wanted["e"] = torch.stack(wanted["e"])
                optimizer.zero_grad()
                loss_of(wanted, found)["loss"].backward()
                optimizer.step()
            save_optimizer(optimizer, optimizer_file(folder, epoch))
            yield epoch, self
            optimizer_file(folder, epoch - 1).unlink(missing_ok=True)


def targets(atoms: Atoms) -> dict[str, torch.Tensor]:
    """Energy in eV/atom, forces in eV/angstrom and, if there is one, the stress in GPa."""
    values = {"e": atoms.get_potential_energy() / len(atoms), "f": atoms.get_forces()}
    if "stress" in atoms.calc.results:
        values["s"] = atoms.get_stress(voigt=False) / GPa
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in values.items()}


def optimizer_file(folder: Path, epoch: int) -> Path:
    """Moments of Adam after an epoch, there for the latest one only."""
    return folder / f"optimizer-{epoch:03d}.safetensors"


def save_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Write the moments of Adam."""
    state = optimizer.state_dict()["state"]
    moments = {f"{i}.{key}": value for i, row in state.items() for key, value in row.items()}
    with written_whole(file) as temporary:
        save_file(moments, temporary)


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Moments of Adam, as `save_optimizer` left them."""
    state = optimizer.state_dict()
    for name, tensor in load_file(file).items():
        index, key = name.split(".")
        state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)


def crystal_graph(
    structure: Structure, atom_cutoff: float, bond_cutoff: float, name: str
) -> CrystalGraph:
    """The graph of CHGNet's own converter, which pairs edges and lists angles in Python loops.

    Undirected edges and angles come in another order, over which the network sums.
    """
    center, neighbor, image, distance = structure.get_neighbor_list(
        atom_cutoff, sites=structure.sites, numerical_tol=1e-8
    )
    if len(np.unique(center)) < len(structure):
        raise Unsupported(f"{name} refuses atoms with no neighbour inside {atom_cutoff:g} angstrom")
    # an edge and its way back are one undirected edge: both named by the smaller of the two
    there = np.column_stack([center, neighbor, image]).astype(np.int64)
    back = np.column_stack([neighbor, center, -image]).astype(np.int64)
    leading = np.argmax(there != back, axis=1)[:, None]
    smaller = np.take_along_axis(there - back, leading, axis=1) < 0
    _, directed, undirected, counts = np.unique(
        np.where(smaller, there, back),
        axis=0,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    if (counts != 2).any():
        raise Unsupported(f"{name} cannot build its graph (an edge has no way back)")
    # angles: ordered pairs of different short edges of one atom
    left = np.flatnonzero(distance <= bond_cutoff)
    right = np.flatnonzero(distance < bond_cutoff)
    right = right[np.argsort(center[right], kind="stable")]
    first = np.searchsorted(center[right], center[left])
    n_right = np.searchsorted(center[right], center[left], side="right") - first
    one = np.repeat(left, n_right)
    offset = np.arange(len(one)) - np.repeat(np.cumsum(n_right) - n_right - first, n_right)
    other = right[offset]
    one, other = one[one != other], other[one != other]
    undirected = undirected.reshape(-1)
    angles = np.column_stack([center[one], undirected[one], one, undirected[other], other])
    return CrystalGraph(
        atomic_number=torch.tensor(structure.atomic_numbers, dtype=torch.int32),
        atom_frac_coord=torch.tensor(
            structure.frac_coords, dtype=torch.float32, requires_grad=True
        ),
        atom_graph=torch.tensor(there[:, :2], dtype=torch.int32),
        neighbor_image=torch.tensor(image, dtype=torch.float32),
        directed2undirected=torch.tensor(undirected, dtype=torch.int32),
        undirected2directed=torch.tensor(directed, dtype=torch.int32),
        bond_graph=torch.tensor(angles, dtype=torch.int32),
        lattice=torch.tensor(structure.lattice.matrix, dtype=torch.float32, requires_grad=True),
        composition=structure.composition.formula,
        atom_graph_cutoff=atom_cutoff,
        bond_graph_cutoff=bond_cutoff,
    )


def quietly(build, *args: Any, **kwargs: Any) -> CHGNet:
    """Build a CHGNet without its greeting on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return build(*args, **kwargs)


def read_checkpoint(path: Path, version: str | None = None) -> CHGNet:
    """A CHGNet from a checkpoint file, unpickling nothing but tensors and plain values.

    As in `CHGNet.load`, version 0.2.0 has a bias in its message layers.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    extra = {"mlp_out_bias": version == "0.2.0"} | ({"version": version} if version else {})
    network = quietly(CHGNet, **state["model_args"] | extra)
    network.load_state_dict(state["state_dict"])
    return network


def packaged_file(relative: str) -> Path:
    """A checkpoint that comes with the chgnet package."""
    return Path(chgnet.__file__).parent / "pretrained" / relative


def load(name: str, entry: dict) -> ChgnetModel:
    """A checkpoint of the chgnet package, or a twin of it with weights drawn from a seed."""
    path = verified(packaged_file(entry["file"]), entry["sha256"])
    model = ChgnetModel(read_checkpoint(path, entry["version"]), name)
    return ChgnetModel(model.untrained(entry["seed"]), name) if "seed" in entry else model


def from_file(path: Path) -> ChgnetModel:
    """A CHGNet ``.pth.tar``."""
    return ChgnetModel(read_checkpoint(path), path.name.removesuffix(".pth.tar"))
