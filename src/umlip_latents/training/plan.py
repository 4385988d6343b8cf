"""What every training needs: its settings, its errors, and a start at the right energies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from ase import Atoms

from ..models.base import TrainableAdapter
from ..resources import check_at_least
from ..structures.describe import composition


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes
    ----------
    epochs
        How often each training structure is seen, 1 at least.
    learning_rate
        Of Adam in the first step; it falls to a hundredth until the last one.
    batch_size
        Structures of one step. Where there are fewer, they are one batch.
    seed
        Draws the order of the structures, and fresh weights where a protocol asks for them.

    Raises
    ------
    InputError
        Epochs, batch size or seed are no such whole numbers.

    Examples
    --------
    >>> TrainingSettings(epochs=5).learning_rate
    0.001
    """

    epochs: int
    learning_rate: float = 1e-3
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        check_at_least(0, seed=self.seed)


def prediction_errors(model: TrainableAdapter, structures: Sequence[Atoms]) -> pd.DataFrame:
    """A row per labelled structure: ``energy``, the error in eV/atom, and ``force``.

    The latter holds arrays: (n_atoms, 3), the errors of the forces in eV/angstrom.
    """
    rows = []
    for atoms in structures:
        energy, forces = model.energy_and_forces(atoms)
        right = atoms.get_potential_energy() / len(atoms), atoms.get_forces()
        rows.append((energy - right[0], forces - right[1]))
    return pd.DataFrame(rows, columns=["energy", "force"])


def align_elements(model: TrainableAdapter, structures: Sequence[Atoms]) -> None:
    """Shift a model's energy of each element by what best explains its errors, by least squares.

    Elements that are not present stay as they are.
    """
    sizes = np.array([len(atoms) for atoms in structures])
    missing = -prediction_errors(model, structures)["energy"].to_numpy() * sizes
    counts = composition(structures) * sizes[:, None]
    model.shift_elements(np.linalg.lstsq(counts, missing, rcond=None)[0])
