"""TensorNet of matgl: node features that enter the readout, inputs of its two final linear maps.

The interactions of matgl's two codes differ. That for PyTorch-geometric sums over an atom's edges
the tensors of its neighbours; that for DGL sums the atom's own tensor, times the weights of the
edges, so that beyond the embedding nothing travels from atom to atom. Weights of one are wrong in
the other.
"""

import torch

from .matgl import MatglModel, read

# isort: split
from matgl.models import TensorNet
from matgl.utils.maths import decompose_tensor, tensor_norm


class TensorNetModel(MatglModel):
    """Latent features of a TensorNet."""

    interactions = "layers"

    def invariants(self, output: torch.Tensor) -> torch.Tensor:
        """Squared norms of the scalar, skew and traceless parts, as the readout takes them."""
        return torch.cat([tensor_norm(part) for part in decompose_tensor(output)], dim=1)


def load(name: str, entry: dict) -> TensorNetModel:
    """A checkpoint that matgl's repository publishes."""
    return TensorNetModel(read(TensorNet, entry), name)
