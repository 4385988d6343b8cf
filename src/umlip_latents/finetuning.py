"""Fine-tuning under the protocols of the paper, the raw weights of every epoch kept on disk."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ase import Atoms

from .models.base import Course, LatentModel, TrainableModel, Unsupported, weights_file
from .models.catalog import load_model
from .resources import InputError, made, sha256, unknown, write_whole
from .splits import split_by_origin
from .structures import composition, labels_fingerprint, load_structures
from .training import prediction_errors

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

    Each epoch has a seal, a hash over the name of the run, the errors and the SHA-256 of the files.

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
    start: TrainableModel
    folder: Path

    def model(self, epoch: int) -> TrainableModel:
        """The model of one epoch (raw weights, never a best-so-far), ready for extraction."""
        file = weights_file(self.folder, epoch)
        return self.start.restored(file, f"{self.protocol}, epoch {epoch}")

    def errors(self, epoch: int) -> pd.DataFrame:
        """Mean absolute errors of one epoch, a row per test structure.

        ``energy`` in meV/atom, ``force`` (over components) in meV/angstrom.
        """
        return pd.DataFrame(json.loads(errors_file(self.folder, epoch).read_text())["errors"])

    @property
    def history(self) -> pd.DataFrame:
        """Test errors by epoch, means over the structures: ``epoch``, ``energy``, ``force``."""
        means = [self.errors(e).mean().to_dict() for e in range(self.epochs + 1)]
        return pd.DataFrame(means).rename_axis("epoch").reset_index()

    def holds(self, epoch: int, *, to_go_on: bool = False) -> bool:
        """Whether an epoch is there with the files that `record` left, and of this very run.

        Those of the optimiser count where a training is `to_go_on` from there.
        """
        try:
            found = json.loads(errors_file(self.folder, epoch).read_text(encoding="utf-8"))
            sums = found["sha256"]
            needed = [name for name in sums if to_go_on or name.startswith("epoch-")]
            intact = all(sha256(self.folder / name) == sums[name] for name in needed)
            return intact and found == sealed(self.folder, sums, found["errors"])
        except (OSError, ValueError, KeyError, TypeError):
            return False


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

    **MACE**: mace-torch's own trainer with the loss of `mini-mace-mptrj` and a learning rate that
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
        and hyperparameters. An epoch in it that is damaged, or of another run, is named in a
        warning and not used.
    epochs, learning_rate, batch_size, seed
        The usual; the seed also draws the fresh weights.
    replay
        Labelled structures of the pretraining domain, for ``multi-head replay``.

    Raises
    ------
    InputError
        Another family, an unknown protocol, no epochs, structures without labels, replay without
        a MACE, or a cache that cannot be written to.

    Examples
    --------
    >>> from umlip_latents import load_model, load_structures
    >>> from umlip_latents.splits import split_by_origin
    >>> parts = split_by_origin(load_structures("li3ps4-gfn1"), 8, 4)
    >>> model = load_model("chgnet-0.3.0")
    >>> run = fine_tune(model, *parts, "bespoke", cache="runs", epochs=5)  # doctest: +SKIP
    >>> run.history["force"].tolist()  # doctest: +SKIP
    [...]
    """
    check_trainable(pretrained)
    if protocol not in (*PROTOCOLS, REPLAY):
        raise unknown(protocol, "protocol", (*PROTOCOLS, REPLAY))
    if epochs < 1 or not len(training) or not len(test):
        raise InputError("Fine-tuning needs an epoch, a training and a test structure at least.")
    if (protocol == REPLAY) != bool(len(replay)) or (len(replay) and not pretrained.replays):
        raise InputError("Multi-head replay needs a MACE and structures for replay.")
    batch_size = min(batch_size, len(training))  # mace-torch drops a batch that is not full
    settings = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    settings["seed"] = seed
    recipe = {
        "protocol": protocol,
        "pretrained": pretrained.fingerprint,
        "training": labels_fingerprint(training, "training"),
        "test": labels_fingerprint(test, "test"),
        "replay": labels_fingerprint(replay, "replay"),
        **settings,
    }
    text = json.dumps(recipe, indent=1)
    folder = Path(cache) / f"{protocol}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    run = FineTuning(protocol, epochs, starting_model(pretrained, protocol, seed), folder)
    first = next((epoch for epoch in range(epochs + 1) if not run.holds(epoch)), None)
    if first is not None:
        write_whole(made(folder) / "recipe.json", text + "\n")
        if (file := errors_file(folder, first)).is_file():
            words = "is damaged or of another run; what follows is trained again"
            warnings.warn(f"{file}: epoch {first} {words}.", stacklevel=2)
        for epoch in range(first, epochs + 1):
            errors_file(folder, epoch).unlink(missing_ok=True)
        first = first if first and run.holds(first - 1, to_go_on=True) else 0
        shift = alignment(run.start, training)
        course = Course(training, replay, shift, folder, first, **settings)
        for epoch, model in run.start.train_on(course):
            record(run, epoch, model, test)
    return run


class Case(NamedTuple):
    """A model and a target domain for it.

    Attributes
    ----------
    start
        What is fine-tuned.
    training, test
        Labelled structures.
    held_out
        Structures to read features of; the test part is among them, the training part is not.
    origins
        (n_held_out,) the trajectory of each. No trajectory has structures in training, too.
    """

    start: TrainableModel
    training: list[Atoms]
    test: list[Atoms]
    held_out: list[Atoms]
    origins: list[str]


def study_cases(
    models: Sequence[str | Path],
    targets: Sequence[str | Path],
    *,
    n_training: int,
    n_test: int,
    n_held_out: int,
) -> tuple[dict[tuple[str, str], Case], list[str]]:
    """Every model on every target domain, as far as it can be trained on it.

    Parameters
    ----------
    models
        Names or files of the starts.
    targets
        Names or files of labelled structures, ``info["origin"]`` naming the trajectory of each.
        Where it does not, each structure is an origin of its own.
    n_training, n_test, n_held_out
        Number of structures, at most; a third of the origins is held out.

    Returns
    -------
    cases : dict
        By the names of start and target.
    left_out : list of str
        A sentence for every model and target that cannot be part of it.

    Examples
    --------
    >>> sizes = {"n_training": 4, "n_test": 2, "n_held_out": 6}
    >>> study_cases(["element"], ["li3ps4-gfn1"], **sizes)
    ({}, ['element: only a CHGNet or a MACE can be fine-tuned.'])
    """
    cases: dict[tuple[str, str], Case] = {}
    left_out: dict[str, None] = {}
    for source, target in product(models, targets):
        try:
            start = load_model(source)
            check_trainable(start)
            structures = labelled(target)
            kept = accepted(start, structures)
            if len(kept) < len(structures):
                refused = f"{len(structures) - len(kept)} of its {len(structures)} structures"
                left_out[f"{target}: {start.name} refuses {refused}."] = None
            training, held_out = split_by_origin(kept, n_training, n_held_out)
            origins = [atoms.info["origin"] for atoms in held_out]
            if len(set(origins)) < 4:
                raise InputError(f"{target}: fewer than 4 trajectories can be held out.")
            test = held_out[:n_test]
            cases[start.name, str(target)] = Case(start, training, test, held_out, origins)
        except InputError as error:
            left_out[str(error)] = None
    return cases, list(left_out)


def check_trainable(model: LatentModel) -> None:
    """Raise `InputError` for a model that cannot be trained on."""
    if not isinstance(model, TrainableModel):
        raise InputError(f"{model.name}: only a CHGNet or a MACE can be fine-tuned.")


def labelled(target: str | Path) -> list[Atoms]:
    """The structures of a target domain, each with its origin; refuses those without labels."""
    structures = load_structures(target)
    labels_fingerprint(structures, f"{target},")
    for index, atoms in enumerate(structures):
        atoms.info["origin"] = str(atoms.info.get("origin", f"structure {index}"))
    return structures


def accepted(model: LatentModel, structures: Sequence[Atoms]) -> list[Atoms]:
    """Those that the model does not refuse.

    Examples
    --------
    >>> len(accepted(load_model("element"), [Atoms("H"), Atoms("HO")]))
    2
    """
    kept = []
    for atoms in structures:
        with contextlib.suppress(Unsupported):
            model.prepare(atoms)
            kept.append(atoms)
    return kept


def starting_model(pretrained: LatentModel, protocol: str, seed: int) -> LatentModel:
    """The network before the first step: weights kept, or drawn afresh, as the protocol says."""
    network = copy.deepcopy(pretrained.network)
    afresh = {"bespoke": ""}.get(protocol, pretrained.readout if "transfer" in protocol else None)
    if afresh is not None:
        fresh = pretrained.untrained(seed).state_dict()
        kept = {k: v for k, v in network.state_dict().items() if not k.startswith(afresh)}
        network.load_state_dict({**fresh, **kept})
    for name, parameter in network.named_parameters():
        parameter.requires_grad = "heads" not in protocol or name.startswith(pretrained.readout)
    return type(pretrained)(network, protocol)


def alignment(model: TrainableModel, structures: Sequence[Atoms]) -> np.ndarray:
    """(119,) energy of each element in eV that best explains the model's errors, by least squares.

    It is zero for elements that are not present.
    """
    errors = [a.get_potential_energy() - len(a) * model.energy_and_forces(a)[0] for a in structures]
    counts = composition(structures) * [[len(a)] for a in structures]
    return np.linalg.lstsq(counts, errors, rcond=None)[0]


def record(run: FineTuning, epoch: int, model: LatentModel, test: Sequence[Atoms]) -> None:
    """Leave an epoch on disk; its errors come last and say that the rest is complete."""
    model.network.eval()
    energy, force = prediction_errors(model, test)
    rows = [
        {"energy": 1000 * abs(e), "force": 1000 * float(np.abs(f).mean())}
        for e, f in zip(energy, force, strict=True)
    ]
    model.save(weights_file(run.folder, epoch))
    file = errors_file(run.folder, epoch)
    files = {*run.folder.glob(f"[!.]*-{epoch:03d}.*")} - {file}
    sums = {path.name: sha256(path) for path in sorted(files)}
    write_whole(file, json.dumps(sealed(run.folder, sums, rows)))


def sealed(folder: Path, sums: dict[str, str], errors: list[dict]) -> dict[str, Any]:
    """The content of an `errors_file`, tied to its run, which has given the folder its name."""
    text = json.dumps([folder.name, sums, errors])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"sha256": sums, "errors": errors, "seal": digest}


def errors_file(folder: Path, epoch: int) -> Path:
    """Test errors after an epoch."""
    return folder / f"errors-{epoch:03d}.json"
