"""Low-rank factors of the word embedding, with frequent pieces counting more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openautoglm.architectures.bert import FactorisedEmbedding
from openautoglm.distillation.embedding import leading_directions


def factorise(embedding: nn.Embedding, counts: Tensor, rank: int) -> FactorisedEmbedding:
    """The best rank-r table for texts in which piece i occurs `counts[i]` times.

    Minimises sum_i c_i |e_i - t_i P|^2 by the SVD of sqrt(c) E (weighted low rank with a diagonal row weight has this
    closed form); counts are smoothed by one, so that unseen pieces keep their direction.
    """
    table = embedding.weight.detach().double()
    weights = (counts.double() + 1).sqrt()[:, None]
    basis = leading_directions(weights * table, rank)  # (hidden, rank), orthonormal
    factors = FactorisedEmbedding(table.shape[0], basis.shape[1], table.shape[1])
    with torch.no_grad():
        factors.table.weight.copy_(table @ basis)
        factors.projection.weight.copy_(basis)
    return factors
