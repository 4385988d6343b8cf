"""Fine-tuning CHGNet under the protocols of the paper, the weights of every epoch kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from tqdm.auto import tqdm

from .models.chgnet import ChgnetModel, quietly, untrained
from .resources import InputError
from .training import error_summary

PROTOCOLS = ("full fine-tuning", "heads fine-tuning", "bespoke")


@dataclass
class FineTuning:
    """One fine-tuning run, epoch by epoch; entry 0 is the state before any step.

    Attributes
    ----------
    protocol
        One of `PROTOCOLS`.
    states
        Raw weights of every epoch, never a best-so-far.
    energy_mae
        Test error of every epoch in meV/atom.
    force_mae
        Test error of every epoch in meV/angstrom.
    """

    protocol: str
    states: list[dict[str, torch.Tensor]]
    energy_mae: list[float]
    force_mae: list[float]


def fine_tune_chgnet(
    network,
    training: Sequence[Atoms],
    test: Sequence[Atoms],
    protocol: str,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
) -> FineTuning:
    """Fine-tune a CHGNet on energies and forces and keep the weights of every epoch.

    The loss is that of CHGNet's trainer for energies and forces: a Huber loss (delta = 0.1) of
    the energy per atom in eV plus one of the force components in eV/angstrom, minimised by Adam
    with a cosine schedule. Energies are aligned by composition energies fitted to the training
    part, which take the place of the checkpoint's own.

    Parameters
    ----------
    network
        The pretrained `chgnet.model.CHGNet`; it is not changed.
    training, test
        Labelled structures.
    protocol
        ``"full fine-tuning"`` trains every weight, ``"heads fine-tuning"`` the readout MLP alone,
        ``"bespoke"`` every weight of a freshly drawn network.
    epochs, learning_rate, batch_size, seed
        The usual; the seed also draws the weights of a bespoke network.

    Raises
    ------
    InputError
        Unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"{protocol}: no such protocol, only {', '.join(PROTOCOLS)}.")
    network = untrained(network, seed) if protocol == "bespoke" else copy.deepcopy(network)
    network.composition_model = None
    for name, parameter in network.named_parameters():
        parameter.requires_grad = protocol != "heads fine-tuning" or name.startswith("mlp.")
    reference = element_energies(training)
    model = ChgnetModel(network, protocol)
    data = [(model.prepare(a), *targets(a, reference)) for a in training]
    checks = [(model.prepare(a), *targets(a, reference)) for a in test]
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=learning_rate)
    steps = epochs * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    rng = np.random.default_rng(seed)
    huber = torch.nn.HuberLoss(delta=0.1)
    run = FineTuning(protocol, [], [], [])
    record(run, network, checks)
    for _ in tqdm(range(epochs), desc=protocol, unit="epoch"):
        network.train()
        for batch in np.array_split(rng.permutation(len(data)), -(-len(data) // batch_size)):
            graphs, energies, forces = zip(*(data[i] for i in batch), strict=True)
            found = network(list(graphs), task="ef")
            loss = huber(found["e"], torch.tensor(energies)) + huber(
                torch.cat(found["f"]), torch.cat(forces)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        record(run, network, checks)
    return run


def element_energies(structures: Sequence[Atoms]) -> np.ndarray:
    """(120,) least-squares energy of each element in eV, zero for elements not present."""
    counts = np.array([np.bincount(a.numbers, minlength=120) for a in structures], dtype=float)
    energies = np.array([a.get_potential_energy() for a in structures])
    return np.linalg.lstsq(counts, energies, rcond=None)[0]


def targets(atoms: Atoms, reference: np.ndarray) -> tuple[float, torch.Tensor]:
    """Energy per atom above the reference in eV, and forces in eV/angstrom."""
    energy = (atoms.get_potential_energy() - reference[atoms.numbers].sum()) / len(atoms)
    return float(energy), torch.tensor(atoms.get_forces(), dtype=torch.float32)


def record(run: FineTuning, network, checks: Sequence[tuple]) -> None:
    """Append weights and test errors of this moment to the run."""
    network.eval()
    energy, force = [], []
    for graph, target, forces in checks:
        found = network([graph], task="ef")
        energy.append(found["e"].item() - target)
        force.append((found["f"][0].detach() - forces).numpy())
    errors = error_summary(energy, force)
    run.energy_mae.append(errors["energy_mae_meV_per_atom"])
    run.force_mae.append(errors["force_mae_meV_per_angstrom"])
    run.states.append({k: v.detach().clone() for k, v in network.state_dict().items()})


def at_epoch(run: FineTuning, network, epoch: int) -> ChgnetModel:
    """The model of one epoch, ready for extraction; `network` gives the architecture."""
    arguments = {**network.model_args, "composition_model": None}
    rebuilt = quietly(type(network), **arguments)
    rebuilt.load_state_dict(run.states[epoch])
    return ChgnetModel(rebuilt, f"{run.protocol}, epoch {epoch}")
