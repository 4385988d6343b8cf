"""mace-torch's own trainer: for recipes, and for fine-tuning."""

import copy
import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ase import Atoms
from ase.io import write
from mace.modules.lora import inject_LoRAs, merge_lora_weights

from ..models.mace import MaceModel, load_pickled
from ..resources import InputError
from .plan import TrainingSettings, align_elements


def train(
    model: MaceModel,
    structures: Sequence[Atoms],
    protocol: str,
    settings: TrainingSettings,
    replay: Sequence[Atoms] = (),
) -> Iterator[MaceModel]:
    """Train a MACE with mace-torch's own trainer: yield it before the first step and every epoch.

    Its universal (Huber) loss of energy, forces and stress, weighted 10 : 100 : 100; a learning
    rate that falls exponentially to a hundredth; no averaged weights.

    Parameters
    ----------
    model, structures, protocol, settings
        As in `chgnet_trainer.train`.
    replay
        Labelled structures that get a readout of their own.
    """
    # without a second readout the trainer takes the energies of the start, whatever E0s says
    start = copy.deepcopy(model.network) if len(replay) else model.network
    align_elements(model, structures)
    yield model
    energies = model.network.atomic_energies_fn.atomic_energies.reshape(-1).tolist()
    parts = {"train": structures, "valid": structures[:4]}  # nothing is decided on it
    if len(replay):
        parts |= {"pt_train": replay, "pt_valid": replay[:4]}
    arguments = {
        "foundation_model_elements": True,
        "force_mh_ft_lr": True,  # keep the learning rate where there is a replay
        "loss": "universal",
        "energy_weight": 10.0,
        "stress_weight": 100.0,
        "compute_stress": True,
        "huber_delta": 0.1,
        "scheduler": "ExponentialLR",
        "default_dtype": "float32",
        "E0s": str(dict(zip(model.elements.tolist(), energies, strict=True))),
        # groups of weights that stay: those before the readouts, or before the products
        "freeze": {"heads": 6, "layer": 5}.get(protocol.split()[0], 0),
        "lora": protocol == "LoRA",
        "lr": settings.learning_rate,
        "lr_scheduler_gamma": 0.01 ** (1 / settings.epochs),
        "batch_size": settings.batch_size,
        "max_num_epochs": settings.epochs,
        "seed": settings.seed,
        "device": str(model.device),
    }
    with TemporaryDirectory(prefix="umlip-latents-") as folder:
        network = run_trainer(Path(folder), parts, arguments, start)
        if arguments["lora"]:
            inject_LoRAs(network)  # its weights are read next
        for epoch in range(settings.epochs):
            file = Path(folder, f"checkpoints/run_run-{settings.seed}_epoch-{epoch}.pt")
            state = torch.load(file, map_location=model.device, weights_only=True)
            network.load_state_dict(state["model"])
            merged = merge_lora_weights(network, inplace=False)
            yield MaceModel(merged, model.name, "Default")  # not the head of the replay


def run_trainer(
    folder: Path,
    parts: Mapping[str, Sequence[Atoms]],
    arguments: dict,
    start: torch.nn.Module | None = None,
) -> torch.nn.Module:
    """The network that mace-torch's own trainer leaves in a folder.

    Parameters
    ----------
    folder
        For everything that the trainer writes, and unpickles again: empty, and nobody else's.
    parts
        Labelled structures of its arguments ``train_file``, ``valid_file`` and so on.
    arguments
        Further arguments of the trainer by name.
    start
        A network to fine-tune.
    """
    from mace.cli.run_train import run  # takes seconds

    given = {"work_dir": str(folder), "save_all_checkpoints": True, "plot": False, **arguments}
    given |= {f"{label}_key": label for label in ("energy", "forces", "stress")}
    dtype, handlers = torch.get_default_dtype(), logging.root.handlers[:]
    try:
        if start is not None:
            given["foundation_model"] = str(folder / "start.model")
            torch.save(start, given["foundation_model"])  # the trainer reads nothing but pickle
        for name, part in parts.items():
            given[f"{name}_file"] = str(folder / f"{name}.xyz")
            bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in part]
            for atoms, labelled in zip(bare, part, strict=True):  # nothing of `info` is read
                atoms.calc = labelled.calc
            write(given[f"{name}_file"], bare)
        settings = trainer_settings(given)
        settings.batch_size = min(settings.batch_size, len(parts["train"]))  # drops a smaller one
        run(settings)
        return load_pickled(folder / "run.model").to(settings.device)
    except Exception as error:  # whatever it raises where arguments or data do not suit it
        raise InputError(f"The trainer of mace-torch stops ({error}).") from error
    finally:  # the trainer sets both for the whole process
        torch.set_default_dtype(dtype)
        logging.root.handlers[:] = handlers


def trainer_settings(arguments: Mapping[str, Any]) -> Namespace:
    """What mace-torch's own parser makes of arguments; raises `ArgumentError` for a wrong one."""
    from mace.tools import build_default_arg_parser

    parser = build_default_arg_parser()
    parser.exit_on_error = False
    switches = {name: value for name, value in arguments.items() if isinstance(value, bool)}
    others = [f"--{name}={value}" for name, value in arguments.items() if name not in switches]
    return parser.parse_args(["--name=run", *others], Namespace(**switches))
