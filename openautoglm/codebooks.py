"""Product quantisation of the word embedding: a few bytes a piece, so that all pieces can stay.

The most frequent pieces keep whole rows: they are few, and most of a text. The row of another is cut into short
vectors, and each of these is replaced by the nearest of 256 centroids that k-means finds for its place (Jégou, Douze
and Schmid 2011, doi 10.1109/TPAMI.2010.57, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openautoglm.parts import CodedEmbedding

ROUNDS = 12  # of k-means; the distortion moves by less than a hundredth afterwards
FREQUENCY_POWER = 0.5  # of a piece's count in its weight: frequent pieces matter more, but there are few of them


def encode_rows(embedding: nn.Embedding, counts: Tensor, codes: int, whole: int) -> CodedEmbedding:
    """`embedding` (pieces, width) with `codes` bytes a piece, but whole rows for the first `whole` pieces.

    counts: how often each piece occurs. ValueError where the width cannot be cut into so many vectors of one length,
    or no piece is left to be coded.
    """
    pieces, width = embedding.weight.shape
    if width % codes:
        allowed = [n for n in range(1, width + 1) if width % n == 0]
        raise ValueError(f"An embedding {width} wide in {codes} codes a piece: give one of {allowed}.")
    if whole >= pieces:
        raise ValueError(f"{whole} whole rows, but there are {pieces} pieces: give fewer, or no embedding_codes.")
    coded = CodedEmbedding(whole, pieces - whole, codes, width)
    coded.whole.weight.data.copy_(embedding.weight[:whole])
    table = embedding.weight[whole:].detach().double().cpu()  # float64: the same codes wherever the memory lies
    weights = (counts[whole:].double().cpu() + 1).pow(FREQUENCY_POWER)
    books = coded.codebooks.weight.data.view(codes, coded.centroids, -1)
    for place, vectors in enumerate(table.split(width // codes, dim=1)):
        books[place], nearest = k_means(vectors, weights, coded.centroids)
        coded.codes[:, place] = nearest.to(torch.uint8)
    return coded


def k_means(vectors: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(n, d) vectors with (n,) weights -> (count, d) centroids, and the nearest one of each vector, (n,).

    Lloyd's rounds from `count` of the vectors, drawn by weight from a fixed seed. A centroid that loses its last vector
    stays where it is.
    """
    start = torch.multinomial(weights, count, generator=torch.Generator().manual_seed(0))
    centroids = vectors[start].clone()
    nearest = _nearest(vectors, centroids)
    for _ in range(ROUNDS):
        mass = weights.new_zeros(count).index_add_(0, nearest, weights)[:, None]
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors * weights[:, None])
        centroids = torch.where(mass > 0, sums / mass.clamp(min=1e-12), centroids)
        nearest = _nearest(vectors, centroids)
    return centroids, nearest


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    return (2 * vectors @ centroids.T - centroids.square().sum(1)).argmax(1)
