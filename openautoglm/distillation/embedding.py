"""Starting a narrow embedding from a wide one: the directions that matter most, and a linear map back.

In float64: float32 rounds by the memory's alignment, so that the same seed would not give the same student.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def leading_directions(table: Tensor, rank: int) -> Tensor:
    """(V, W) word table -> (W, rank) orthonormal basis: its leading right singular vectors.

    `table @ basis` keeps as much of the table as `rank` dimensions can (Eckart and Young 1936).
    """
    wide = table.double()
    _, vectors = torch.linalg.eigh(wide.T @ wide)  # of ascending eigenvalues: the squared singular values
    return vectors[:, -rank:].to(table.dtype)


@torch.no_grad()
def copy_tables(narrow: nn.Module, wide: nn.Module) -> None:
    """Project the word, position and token type tables of `wide` onto the leading directions of its words."""
    words = wide.get_parameter("word_embeddings.weight")
    basis = leading_directions(words, narrow.get_parameter("word_embeddings.weight").shape[1])
    for name in ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"):
        narrow.get_parameter(name).copy_(wide.get_parameter(name) @ basis)


@torch.no_grad()
def fit_linear(linear: nn.Linear, inputs: Tensor, targets: Tensor) -> None:
    """Make `linear` the least squares map from `inputs` (N, in) to `targets` (N, out), the smallest where many fit.

    Behind a layer norm the inputs sum to 0, so many do: a ridge of a millionth of the inputs' mean square decides.
    """
    known = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).double()
    moments = known.T @ known
    ridge = 1e-6 * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    solution = torch.linalg.solve(moments + ridge, known.T @ targets.double())  # (in + 1, out)
    linear.weight.copy_(solution[:-1].T)
    linear.bias.copy_(solution[-1])
