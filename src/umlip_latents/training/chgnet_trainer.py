"""CHGNet, fine-tuned with the loss of its own trainer and Adam."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from chgnet.trainer.trainer import CombinedLoss
from mace.modules.lora import inject_LoRAs, merge_lora_weights  # of any network
from tqdm.auto import tqdm

from ..models.base import seeded
from ..models.chgnet import ChgnetModel
from .plan import TrainingSettings, align_elements


def train(
    model: ChgnetModel, structures: Sequence[Atoms], protocol: str, settings: TrainingSettings
) -> Iterator[ChgnetModel]:
    """Train a CHGNet: yield it before the first step and after every epoch.

    The loss is that of CHGNet's own trainer: Huber losses (delta = 0.1) of the energy in eV/atom,
    of the force components in eV/angstrom and, with weight 0.1, of the stress in GPa where every
    structure has one. The learning rate of Adam falls along half a cosine to a hundredth.

    Parameters
    ----------
    model
        Is changed in place.
    structures
        Labelled.
    protocol, settings
        Which weights to train, see `fine_tune`; how long and how fast.
    """
    network = model.network
    align_elements(model, structures)
    yield model
    if protocol == "LoRA":
        with seeded(settings.seed):
            inject_LoRAs(network)
    parts = {"heads": [network.mlp]}
    parts["layer"] = [network.atom_conv_layers[-1], network.readout_norm, network.mlp]
    if trained := parts.get(protocol.split()[0]):  # as CHGNet's own tutorial freezes the others
        network.requires_grad_(False)
        torch.nn.ModuleList(trained).requires_grad_(True)
    network.composition_model.requires_grad_(False)
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
        yield ChgnetModel(merge_lora_weights(network, inplace=False), model.name)


def labels_of(atoms: Atoms, device: torch.device) -> dict[str, torch.Tensor]:
    """Energy in eV/atom, forces in eV/angstrom and, if there is one, the stress in GPa."""
    values = {"e": atoms.get_potential_energy() / len(atoms), "f": atoms.get_forces()}
    if "stress" in atoms.calc.results:
        values["s"] = atoms.get_stress(voigt=False) / GPa
    return {k: torch.tensor(v, dtype=torch.float32, device=device) for k, v in values.items()}
