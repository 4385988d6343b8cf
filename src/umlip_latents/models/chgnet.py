"""CHGNet: backbone after the last convolution and readout norm, last layer of the readout MLP."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from pymatgen.core import Lattice, Structure
from safetensors.torch import load_file, save
from tqdm.auto import tqdm

from ..resources import InputError, verified, write_whole
from .base import Adapter, Course, Unsupported, numbered, periodic, recorded, weights_file

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
        about = {key: a for key, a in network.model_args.items() if key != "version"}  # a label
        super().__init__(network, name, SUPPORTED, about)
        self.inputs = {"backbone": network.mlp, "last": network.mlp.layers[-1]}
        self.outputs = numbered(network.atom_conv_layers)

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """CHGNet's own graph, with the cutoffs of this very checkpoint."""
        converter = self.network.graph_converter
        lattice = Lattice(periodic(atoms, 2 * converter.atom_graph_cutoff).cell.array)
        collecting = gc.isenabled()
        gc.disable()  # it would look through the many small parts of a graph again and again
        try:
            return converter(
                Structure(lattice, atoms.numbers, atoms.positions, coords_are_cartesian=True)
            )
        except (ValueError, RuntimeError) as error:
            why = str(error)
            if "isolated atom" in why:
                why = f"no neighbour inside {converter.atom_graph_cutoff:g} angstrom of an atom"
            raise Unsupported(f"{self.name} cannot build its graph ({why})") from None
        finally:
            if collecting:
                gc.enable()

    def size(self, graph: CrystalGraph) -> int:
        """Directed edges of the atom graph plus angles."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def features(self, graphs: Sequence[CrystalGraph]) -> dict[str, np.ndarray]:
        """Read all layers off one forward pass: around and inside the readout MLP, convolutions."""
        with recorded(self.inputs, self.outputs) as found:
            self.network(list(graphs), task="e")
        return {layer: found[layer].cpu().numpy() for layer in (*self.inputs, *self.outputs)}

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.derivatives([self.prepare(atoms)], "ef")
        return found["e"].item(), found["f"][0].numpy()

    def derivatives(
        self, graphs: Sequence[CrystalGraph], task: str, *, to_train: bool = False
    ) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        """What the network gives for the tasks "ef" and "efs", from one backward pass.

        `CHGNet.forward` makes one for the forces and another for the stress, and a training has to
        go back through both. Here atoms are moved by zeros and the lattice is strained by zeros.

        Returns
        -------
        dict
            ``e`` (n_graphs,) in eV/atom, ``f`` (n_atoms, 3) each in eV/angstrom and, if asked for,
            ``s`` (3, 3) each in GPa; differentiable if they are `to_train` by.
        """
        moved, shifts, strains = [], [], []
        for graph in map(copy.copy, graphs):
            lattice = graph.lattice
            shift = torch.zeros_like(graph.atom_frac_coord, requires_grad=True)
            strain = torch.zeros_like(lattice, requires_grad=True)
            graph.atom_frac_coord = graph.atom_frac_coord.detach() + shift @ lattice.inverse()
            if "s" in task:
                graph.lattice = lattice + lattice @ strain
                strains.append(strain)
            moved.append(graph)
            shifts.append(shift)
        energies = self.network(moved, task="e")["e"].reshape(-1)
        total = energies @ energies.new_tensor([len(shift) for shift in shifts])
        slopes = torch.autograd.grad(total, shifts + strains, create_graph=to_train)
        volumes = [graph.lattice.det().abs() for graph in graphs]
        stresses = [s / v / GPa for s, v in zip(slopes[len(graphs) :], volumes, strict=False)]
        return {"e": energies, "f": [-s for s in slopes[: len(graphs)]], "s": stresses}

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the composition model."""
        weight = self.network.composition_model.fc.weight
        with torch.no_grad():
            weight += torch.tensor(energies[SUPPORTED], dtype=weight.dtype)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        write_whole(path, save(self.network.state_dict()))

    def restored(self, path: Path, name: str) -> ChgnetModel:
        """The same architecture with the weights that `save` wrote."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(load_file(path))
        return ChgnetModel(network, name)

    def untrained(self, seed: int) -> CHGNet:
        """The same architecture with freshly drawn weights."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return built(**self.network.model_args)

    def train_on(self, course: Course) -> Iterator[tuple[int, ChgnetModel]]:
        """Train with the loss of CHGNet's own trainer and Adam; see `TrainableModel`.

        The order of the batches and the learning rate follow from seed and epoch alone, and the
        moments of Adam are kept: an interrupted training goes on exactly as it would have.
        """
        from chgnet.trainer.trainer import CombinedLoss  # a heavy library

        training, _, shift, folder, first, epochs, learning_rate, batch_size, seed = course
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
                found = self.derivatives([graphs[i] for i in batch], task, to_train=True)
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
    write_whole(file, save(moments))


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Moments of Adam, as `save_optimizer` left them."""
    state = optimizer.state_dict()
    for name, tensor in load_file(file).items():
        index, key = name.split(".")
        state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)


def built(**arguments: Any) -> CHGNet:
    """A CHGNet without its greeting on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNet(**arguments)


def read_checkpoint(path: Path, version: str | None = None) -> CHGNet:
    """A CHGNet from a checkpoint file, unpickling nothing but tensors and plain values.

    As in `CHGNet.load`, version 0.2.0 has a bias in its message layers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    except UnpicklingError:  # whose message asks to run the file's code
        words = "is not a CHGNet, or holds more than tensors and plain values"
        raise InputError(f"{path}: {words}.") from None
    network = built(**state["model_args"] | {"mlp_out_bias": version == "0.2.0"})
    network.load_state_dict(state["state_dict"])
    return network


def load(name: str, entry: dict) -> ChgnetModel:
    """A checkpoint of the chgnet package."""
    path = Path(chgnet.__file__).parent / "pretrained" / entry["file"]
    return ChgnetModel(read_checkpoint(verified(path, entry["sha256"]), entry["version"]), name)


def from_file(path: Path) -> ChgnetModel:
    """A CHGNet ``.pth.tar``."""
    return ChgnetModel(read_checkpoint(path), path.name.removesuffix(".pth.tar"))
