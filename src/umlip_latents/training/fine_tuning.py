"""Fine-tuning under the protocols of the paper, the raw weights of every epoch kept on disk."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms

from ..models.base import LatentModel, TrainableAdapter, identity, one_thread
from ..models.catalogue import load_model
from ..models.chgnet import ChgnetModel
from ..models.mace import MaceModel
from ..resources import InputError, ensure_dir, unknown_name, write_file
from ..structures.describe import labels_fingerprint
from . import chgnet_trainer, mace_trainer
from .plan import TrainingSettings, prediction_errors

REPLAY = "multi-head replay"  # of mace-torch
PROTOCOLS = ("full fine-tuning", "heads fine-tuning", "layer freezing", "LoRA", "bespoke")
PROTOCOLS += ("full transfer learning", "heads transfer learning", REPLAY)
TRAINERS = {ChgnetModel: chgnet_trainer.train, MaceModel: mace_trainer.train}


@dataclass(frozen=True)
class FineTuning:
    """A finished run, of which the raw weights of every epoch are kept, never a best-so-far.

    Attributes
    ----------
    name
        Protocol and seed.
    folder
        Where the weights of every epoch and the test errors lie.
    """

    name: str
    folder: Path

    def file(self, epoch: int) -> Path:
        """The weights after an epoch, a file for `load_model`; 0 is the state before any step."""
        return self.folder / f"{self.name}-epoch-{epoch:03d}.safetensors"

    def model(self, epoch: int) -> LatentModel:
        """The model after an epoch, ready for extraction, named as its file is."""
        return load_model(self.file(epoch), device="cpu")

    @property
    def history(self) -> pd.DataFrame:
        """Mean absolute test errors, over the structures, in a row per ``epoch``.

        ``energy`` in meV/atom, ``force`` (over components) in meV/angstrom.
        """
        return pd.read_csv(self.folder / "errors.csv")


def fine_tune(
    pretrained: str | Path | LatentModel,
    training: Sequence[Atoms],
    test: Sequence[Atoms],
    protocol: str,
    settings: TrainingSettings,
    *,
    cache: str | Path,
    replay: Sequence[Atoms] = (),
) -> FineTuning:
    """Fine-tune a CHGNet or a MACE under a protocol, or read the same run from the cache.

    Before the first step the model's energy per element is aligned with the training part by least
    squares; it then stays as it is. See `chgnet_trainer.train` and `mace_trainer.train` for losses
    and optimisers. Only a run that is complete is read; one that was interrupted is repeated from
    nothing.

    Parameters
    ----------
    pretrained
        A CHGNet or a MACE, by name, by file or as an object on the device where it is to be
        trained; not changed.
    training, test
        Labelled structures; the test part is only looked at.
    protocol
        ``fine-tuning`` starts from all pretrained weights, ``transfer learning`` from a freshly
        drawn readout on the pretrained backbone; ``full`` trains every weight, ``heads`` the
        readout alone. ``bespoke``: every weight freshly drawn and trained. ``layer freezing``
        trains the upper part alone, as the makers advise: CHGNet's last convolution and readout,
        MACE's products and readouts. ``LoRA`` adds matrices of rank 4 to the linear maps and trains
        these; what is kept is the sum. ``multi-head replay`` (MACE): every weight trained, a second
        readout for `replay`.
    settings
        Epochs, learning rate, batch size and seed.
    cache
        Folder for all runs. Each has one of its own, named after protocol, starting weights, data
        and settings.
    replay
        Labelled structures of the pretraining domain, for ``multi-head replay``.

    Raises
    ------
    InputError
        Another family, an unknown protocol, structures without labels, replay without a MACE, or a
        cache that cannot be written to.

    Examples
    --------
    >>> from umlip_latents import load_structures
    >>> from umlip_latents.structures.splits import split_by_origin
    >>> parts, settings = split_by_origin(load_structures("li3ps4-gfn1"), 8, 4), TrainingSettings(5)
    >>> how = ("full fine-tuning", settings)
    >>> run = fine_tune("chgnet-0.3.0", *parts, *how, cache="runs")  # doctest: +SKIP
    >>> run.history["force"].tolist(), run.model(5).name  # doctest: +SKIP
    ([...], 'full-fine-tuning-s0-epoch-005')
    """
    if isinstance(pretrained, str | Path):
        pretrained = load_model(pretrained)
    if type(pretrained) not in TRAINERS:
        raise InputError(f"{pretrained.name}: only a CHGNet or a MACE can be fine-tuned.")
    if protocol not in PROTOCOLS:
        raise unknown_name(protocol, "protocol", PROTOCOLS)
    if not len(training) or not len(test):
        raise InputError("Fine-tuning needs a training and a test structure at least.")
    replays = (protocol == REPLAY, len(replay) > 0, isinstance(pretrained, MaceModel))
    if any(replays[:2]) and not all(replays):
        raise InputError("Multi-head replay needs a MACE and structures for replay.")
    parts = {"training": training, "test": test, "replay": replay}
    about = {part: labels_fingerprint(structures, part) for part, structures in parts.items()}
    about |= {"protocol": protocol, "pretrained": pretrained.fingerprint, **asdict(settings)}
    name = f"{protocol.replace(' ', '-')}-s{settings.seed}"
    run = FineTuning(name, Path(cache) / f"{name}-{identity(about)[:12]}")
    if not (run.folder / "errors.csv").exists():
        ensure_dir(run.folder)
        options = {"replay": replay} if len(replay) else {}
        with one_thread():  # beside other work PyTorch's threads mostly wait for each other
            start = starting_model(pretrained, protocol, settings.seed)
            epochs = TRAINERS[type(start)](start, training, protocol, settings, **options)
            rows = []
            for epoch, model in enumerate(epochs):
                model.save(run.file(epoch))
                errors = prediction_errors(model, test)
                force = errors["force"].map(lambda error: np.abs(error).mean())
                rows.append((epoch, 1000 * errors["energy"].abs().mean(), 1000 * force.mean()))
        table = pd.DataFrame(rows, columns=["epoch", "energy", "force"])
        write_file(run.folder / "errors.csv", table.to_csv(index=False))  # last: all is there
    return run


def starting_model(pretrained: TrainableAdapter, protocol: str, seed: int) -> TrainableAdapter:
    """The network before the first step: weights kept, or drawn afresh, as the protocol says."""
    network = copy.deepcopy(pretrained.network)
    if protocol == "bespoke" or "transfer" in protocol:
        part = "" if protocol == "bespoke" else pretrained.readout
        fresh = pretrained.untrained(seed).state_dict().items()
        redrawn = {name: weight for name, weight in fresh if name.startswith(part)}
        network.load_state_dict(network.state_dict() | redrawn)
    return type(pretrained)(network, protocol)
