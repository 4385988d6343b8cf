"""Fine-tuning under the protocols of the paper, the raw weights of every epoch kept on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from ase import Atoms
from ase.io import write
from ase.units import GPa
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from .models.base import LatentModel
from .models.catalog import load_model
from .resources import InputError, written_whole
from .structures import labels_fingerprint

PROTOCOLS = (
    "full fine-tuning",
    "heads fine-tuning",
    "full transfer learning",
    "heads transfer learning",
    "bespoke",
)
REPLAY = "multi-head replay"  # of mace-torch


@dataclass(frozen=True)
class FineTuning:
    """A finished run; epoch 0 is the state before any step.

    Attributes
    ----------
    protocol
        One of `PROTOCOLS`, or `REPLAY`.
    epochs
        Number of the last epoch.
    start
        A model of the same architecture.
    folder
        Where the raw weights and the test errors of every epoch lie.
    """

    protocol: str
    epochs: int
    start: LatentModel
    folder: Path

    def model(self, epoch: int) -> LatentModel:
        """The model of one epoch (raw weights, never a best-so-far), ready for extraction."""
        file = weights_file(self.folder, epoch)
        if file.with_suffix(".json").is_file():  # a MACE and its card
            model = load_model(file)
            model.name = f"{self.protocol}, epoch {epoch}"
            return model
        network = copy.deepcopy(self.start.network)
        network.load_state_dict(load_file(file))
        return type(self.start)(network, f"{self.protocol}, epoch {epoch}")

    def errors(self, epoch: int) -> pd.DataFrame:
        """Mean absolute errors of one epoch, a row per test structure.

        ``energy`` in meV/atom, ``force`` (over components) in meV/angstrom.
        """
        return pd.DataFrame(json.loads(errors_file(self.folder, epoch).read_text()))

    @property
    def history(self) -> pd.DataFrame:
        """Test errors by epoch, means over the structures: ``epoch``, ``energy``, ``force``."""
        means = [self.errors(e).mean().to_dict() for e in range(self.epochs + 1)]
        return pd.DataFrame(means).rename_axis("epoch").reset_index()


class Settings(NamedTuple):
    """What both trainers are told."""

    learning_rate: float
    batch_size: int
    seed: int


def fine_tune(
    pretrained: LatentModel,
    training: Sequence[Atoms],
    test: Sequence[Atoms],
    protocol: str,
    *,
    cache: str | Path,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 4,
    seed: int = 0,
    replay: Sequence[Atoms] = (),
) -> FineTuning:
    """Train a CHGNet or a MACE on under a protocol, or read the same run from the cache.

    Before the first step the model's energy per element is aligned with the training part by least
    squares; it then stays as it is.

    **CHGNet**: the loss of its own trainer, Huber losses (delta = 0.1) of the energy in eV/atom, of
    the force components in eV/angstrom and, with weight 0.1, of the stress in GPa where every
    structure has one. Adam; the learning rate falls along half a cosine to a hundredth. Order of
    the batches and learning rate follow from seed and epoch alone, so a run that was interrupted
    goes on exactly as it would have.

    **MACE**: mace-torch's own trainer with the loss of `book-mace-mptrj` and a learning rate that
    falls exponentially to a hundredth, without averaged weights. An interrupted run starts again.

    Parameters
    ----------
    pretrained
        A `ChgnetModel` or `MaceModel`; it is not changed.
    training, test
        Labelled structures; the test part is only looked at.
    protocol
        ``fine-tuning`` starts from all pretrained weights, ``transfer learning`` from a freshly
        drawn readout on the pretrained backbone; ``full`` trains every weight, ``heads`` the
        readout alone. ``bespoke``: every weight freshly drawn and trained. ``multi-head replay``
        (MACE): every weight trained, a second readout for `replay`.
    cache
        Folder for all runs. Each has one of its own, named after protocol, starting weights, data
        and hyperparameters.
    epochs, learning_rate, batch_size, seed
        The usual; the seed also draws the fresh weights.
    replay
        Labelled structures of the pretraining domain, for ``multi-head replay``.

    Raises
    ------
    InputError
        Another family, an unknown protocol, no epochs, structures without labels, or replay
        without a MACE.
    """
    if not hasattr(pretrained, "HEAD"):
        raise InputError(f"{pretrained.name}: only a CHGNet or a MACE can be fine-tuned.")
    is_mace = pretrained.HEAD == "readouts."
    if protocol not in (*PROTOCOLS, REPLAY):
        raise InputError(f"{protocol}: no such protocol, only {', '.join((*PROTOCOLS, REPLAY))}.")
    if epochs < 1 or not len(training) or not len(test):
        raise InputError("Fine-tuning needs an epoch, a training and a test structure at least.")
    if (protocol == REPLAY) != bool(len(replay)) or (len(replay) and not is_mace):
        raise InputError("Multi-head replay needs a MACE and structures for replay.")
    settings = Settings(learning_rate, batch_size, seed)
    recipe = {
        "protocol": protocol,
        "pretrained": pretrained.fingerprint,
        "training": labels_fingerprint(training, "training"),
        "test": labels_fingerprint(test, "test"),
        "replay": labels_fingerprint(replay, "replay"),
        "epochs": epochs,
        **settings._asdict(),
    }
    text = json.dumps(recipe, indent=1)
    folder = Path(cache) / f"{protocol}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    run = FineTuning(protocol, epochs, starting_model(pretrained, protocol, seed), folder)
    if not errors_file(folder, epochs).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(text + "\n")
        if is_mace:
            train_mace(run, training, test, settings, replay)
        else:
            train_chgnet(run, training, test, settings)
    return run


def starting_model(pretrained: LatentModel, protocol: str, seed: int) -> LatentModel:
    """The network before the first step: weights kept, or drawn afresh, as the protocol says."""
    network = copy.deepcopy(pretrained.network)
    afresh = {"bespoke": ""}.get(protocol, pretrained.HEAD if "transfer" in protocol else None)
    if afresh is not None:
        fresh = pretrained.untrained(seed).state_dict()
        kept = {k: v for k, v in network.state_dict().items() if not k.startswith(afresh)}
        network.load_state_dict({**fresh, **kept})
    for name, parameter in network.named_parameters():
        trained = "heads" not in protocol or name.startswith(pretrained.HEAD)
        parameter.requires_grad = trained and not name.startswith("composition_model")
    return type(pretrained)(network, protocol)


def align_elements(model: LatentModel, structures: Sequence[Atoms]) -> None:
    """Add to the model's energy per element what best explains its errors on the structures."""
    errors = [a.get_potential_energy() - len(a) * model.energy_and_forces(a)[0] for a in structures]
    model.shift_elements(element_energies(structures, errors))


def element_energies(structures: Sequence[Atoms], energies: Sequence[float]) -> np.ndarray:
    """(120,) least-squares energy of each element in eV, zero for elements not present."""
    counts = np.array([np.bincount(a.numbers, minlength=120) for a in structures], dtype=float)
    return np.linalg.lstsq(counts, np.asarray(energies), rcond=None)[0]


def train_chgnet(
    run: FineTuning, training: Sequence[Atoms], test: Sequence[Atoms], settings: Settings
) -> None:
    """Go through the epochs that are missing and leave weights and test errors of each."""
    from chgnet.trainer.trainer import CombinedLoss  # a heavy library

    model, network = run.start, run.start.network
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    done = [e for e in range(run.epochs) if errors_file(run.folder, e).is_file()]
    if done:
        network.load_state_dict(load_file(weights_file(run.folder, done[-1])))
        if done[-1]:
            load_optimizer(optimizer, optimizer_file(run.folder, done[-1]))
    else:
        align_elements(model, training)
        record(run, 0, model, test)
    graphs = [model.prepare(a) for a in training]
    labels = [targets(a) for a in training]
    task = "efs" if all("s" in label for label in labels) else "ef"
    loss_of = CombinedLoss(target_str=task, criterion="Huber", allow_missing_labels=False)
    n_batches = -(-len(training) // settings.batch_size)
    first = len(done) or 1
    for epoch in tqdm(range(first, run.epochs + 1), desc=run.protocol, unit="epoch"):
        network.train()
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(training))
        for step, batch in enumerate(np.array_split(order, n_batches)):
            progress = (epoch - 1 + step / n_batches) / run.epochs
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (0.505 + 0.495 * np.cos(np.pi * progress))
            found = network([graphs[i] for i in batch], task=task)
            found["e"] = found["e"].reshape(-1)
            wanted = {key: [labels[i][key] for i in batch] for key in task}
            wanted["e"] = torch.stack(wanted["e"])
            optimizer.zero_grad()
            loss_of(wanted, found)["loss"].backward()
            optimizer.step()
        save_optimizer(optimizer, optimizer_file(run.folder, epoch))
        record(run, epoch, model, test)
        optimizer_file(run.folder, epoch - 1).unlink(missing_ok=True)


def train_mace(
    run: FineTuning,
    training: Sequence[Atoms],
    test: Sequence[Atoms],
    settings: Settings,
    replay: Sequence[Atoms],
) -> None:
    """Call mace-torch's trainer and read the checkpoints of all epochs.

    An interrupted run starts again: mace-torch would go on with its batches in another order.
    """
    from .models import mace as family  # mace first, then its trainer
    from .training import labelled, run_mace

    scratch = run.folder / "mace-torch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    foundation = copy.deepcopy(run.start.network)
    align_elements(run.start, training)
    record(run, 0, run.start, test)
    # the trainer reads nothing but pickle, and takes the energies per element from there, whatever
    # E0s says, unless there is a second readout
    torch.save(foundation if len(replay) else run.start.network, scratch / "start.model")
    # nothing is decided on the second
    parts = {"train": training, "valid": training[: settings.batch_size]}
    if len(replay):
        parts |= {"pt_train": replay, "pt_valid": replay[: settings.batch_size]}
    for name, part in parts.items():
        write(scratch / f"{name}.xyz", [labelled(a) for a in part])
    run_mace(
        {f"{name}_file": str(scratch / f"{name}.xyz") for name in parts}
        | {
            "name": "run",
            "work_dir": str(scratch),
            "foundation_model": str(scratch / "start.model"),
            "foundation_model_elements": True,
            "multiheads_finetuning": bool(len(replay)),
            "force_mh_ft_lr": True,
            "E0s": str(run.start.element_energies()),
            "freeze": 6 if "heads" in run.protocol else 0,
            "loss": "universal",
            "energy_weight": 10.0,
            "forces_weight": 100.0,
            "stress_weight": 100.0,
            "compute_stress": True,
            "huber_delta": 0.1,
            "clip_grad": 10.0,
            "lr": settings.learning_rate,
            "scheduler": "ExponentialLR",
            "lr_scheduler_gamma": 0.01 ** (1 / run.epochs),
            "batch_size": settings.batch_size,
            "valid_batch_size": settings.batch_size,
            "max_num_epochs": run.epochs,
            "seed": settings.seed,
            "default_dtype": "float32",
            "save_all_checkpoints": True,
        }
    )
    network = family.load_pickled(scratch / "run.model").to("cpu")
    for epoch in range(1, run.epochs + 1):
        file = scratch / "checkpoints" / f"run_run-{settings.seed}_epoch-{epoch - 1}.pt"
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["model"])
        model = family.MaceModel(network, run.protocol, "Default")  # not the head of the replay
        record(run, epoch, model, test)
    shutil.rmtree(scratch)


def targets(atoms: Atoms) -> dict[str, torch.Tensor]:
    """Energy in eV/atom, forces in eV/angstrom and, if there is one, the stress in GPa."""
    values = {"e": atoms.get_potential_energy() / len(atoms), "f": atoms.get_forces()}
    if "stress" in atoms.calc.results:
        values["s"] = atoms.get_stress(voigt=False) / GPa
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in values.items()}


def record(run: FineTuning, epoch: int, model: LatentModel, test: Sequence[Atoms]) -> None:
    """Leave an epoch on disk; its errors come last and say that the rest is complete."""
    model.network.eval()
    rows = []
    for atoms in test:
        energy, forces = model.energy_and_forces(atoms)
        rows.append(
            {
                "energy": 1000 * abs(energy - atoms.get_potential_energy() / len(atoms)),
                "force": 1000 * float(np.abs(forces - atoms.get_forces()).mean()),
            }
        )
    model.save(weights_file(run.folder, epoch))
    with written_whole(errors_file(run.folder, epoch)) as temporary:
        temporary.write_text(json.dumps(rows))


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


def weights_file(folder: Path, epoch: int) -> Path:
    """Raw weights after an epoch."""
    return folder / f"epoch-{epoch:03d}.safetensors"


def optimizer_file(folder: Path, epoch: int) -> Path:
    """Moments of the optimiser after an epoch, there for the latest one only."""
    return folder / f"optimizer-{epoch:03d}.safetensors"


def errors_file(folder: Path, epoch: int) -> Path:
    """Test errors after an epoch."""
    return folder / f"errors-{epoch:03d}.json"
