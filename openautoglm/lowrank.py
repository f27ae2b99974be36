"""Low-rank factors of the word embedding, with frequent pieces counting more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openautoglm.architectures.bert import FactorisedEmbedding


def factorise(embedding: nn.Embedding, counts: Tensor, rank: int) -> FactorisedEmbedding:
    """The best rank-r table for texts in which piece i occurs `counts[i]` times.

    Minimises sum_i c_i |e_i - t_i P|^2 by the SVD of sqrt(c) E (weighted low rank with a diagonal row weight has this
    closed form); counts are smoothed by one, so that unseen pieces keep their direction.
    """
    table = embedding.weight.detach().double()
    weights = (counts.double() + 1).sqrt()[:, None]
    _, _, right = torch.linalg.svd(weights * table, full_matrices=False)
    basis = right[: min(rank, len(right))]  # (rank, hidden), orthonormal
    factors = FactorisedEmbedding(table.shape[0], len(basis), table.shape[1])
    with torch.no_grad():
        factors.table.weight.copy_((table @ basis.T).float())
        factors.projection.weight.copy_(basis.T.float())
    return factors
