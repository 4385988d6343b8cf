"""CHGNet, fine-tuned with the loss of its own trainer and Adam."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from chgnet.trainer.trainer import CombinedLoss
from tqdm.auto import tqdm

from ..models.chgnet import ChgnetModel
from .plan import TrainingSettings


def train(
    model: ChgnetModel, structures: Sequence[Atoms], shift: np.ndarray, settings: TrainingSettings
) -> Iterator[ChgnetModel]:
    """Train a CHGNet: yield it before the first step and after every epoch.

    The loss is that of CHGNet's own trainer: Huber losses (delta = 0.1) of the energy in eV/atom,
    of the force components in eV/angstrom and, with weight 0.1, of the stress in GPa where every
    structure has one. The learning rate of Adam falls along half a cosine to a hundredth.

    Parameters
    ----------
    model
        Is changed in place; weights whose ``requires_grad`` is false stay as they are.
    structures
        Labelled.
    shift
        (119,) energy in eV to add to that of each element before the first step.
    settings
        How long and how fast.
    """
    network = model.network
    model.shift_elements(shift)
    network.composition_model.requires_grad_(False)
    yield model
    graphs = [model.prepare(atoms) for atoms in structures]
    labels = [labels_of(atoms, model.device) for atoms in structures]
    task = "efs" if all("s" in label for label in labels) else "ef"
    loss = CombinedLoss(target_str=task, criterion="Huber", allow_missing_labels=False)
    n_batches = -(-len(graphs) // settings.batch_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, settings.epochs * n_batches, eta_min=0.01 * settings.learning_rate
    )
    for epoch in tqdm(range(1, settings.epochs + 1), desc=model.name, unit="epoch"):
        network.train()
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(graphs))
        for batch in np.array_split(order, n_batches):
            predicted = model.derivatives([graphs[i] for i in batch])
            target = {key: [labels[i][key] for i in batch] for key in task}
            target["e"] = torch.stack(target["e"])
            optimizer.zero_grad()
            loss(target, predicted)["loss"].backward()
            optimizer.step()
            scheduler.step()
        network.eval()
        yield model


def labels_of(atoms: Atoms, device: torch.device) -> dict[str, torch.Tensor]:
    """Energy in eV/atom, forces in eV/angstrom and, if there is one, the stress in GPa."""
    values = {"e": atoms.get_potential_energy() / len(atoms), "f": atoms.get_forces()}
    if "stress" in atoms.calc.results:
        values["s"] = atoms.get_stress(voigt=False) / GPa
    return {k: torch.tensor(v, dtype=torch.float32, device=device) for k, v in values.items()}
