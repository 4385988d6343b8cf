"""How a model is fine-tuned."""

from dataclasses import dataclass

from ..resources import InputError, check_at_least


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
        A value is out of bounds.

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
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate {self.learning_rate}: must be a positive number.")
