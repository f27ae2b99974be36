"""Product quantisation of the word embedding: a few bytes a piece, so that all pieces can stay.

The most frequent pieces keep whole rows: they are few, and most of a text. The row of another is cut into short
vectors, and each of these is replaced by one of 256 centroids that k-means finds for its place (Jégou, Douze and Schmid
2011, doi 10.1109/TPAMI.2010.57, section 3). Near is what hardly moves the model's answers, not what differs little; and
the vectors are cut along axes that make the most of each byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm import architectures
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.parts import CodedEmbedding

ROUNDS = 12  # of k-means
FREQUENCY_POWER = 0.5  # of a piece's count in its weight: frequent pieces matter more, but there are few of them
DAMPING = 0.3  # share of the mean diagonal that is added to a metric: a sample of texts does not show every direction
ROWS_AT_ONCE = 1024  # whose distances to all centroids fit into a core's own cache


def encode_rows(
    embedding: nn.Embedding, counts: Tensor, codes: int, whole: int, metric: Tensor | None = None
) -> CodedEmbedding:
    """`embedding` (pieces, width) with `codes` bytes a piece, but whole rows for the first `whole` pieces.

    counts: how often each piece occurs. metric: (width, width), as `answer_metric` gives it; none: every direction
    counts alike. ValueError where the width cannot be cut into so many vectors of one length, or no piece is left to
    be coded.
    """
    pieces, width = embedding.weight.shape
    if width % codes:
        allowed = [n for n in range(1, width + 1) if width % n == 0]
        raise ValueError(f"An embedding {width} wide in {codes} codes a piece: give one of {allowed}.")
    if whole >= pieces:
        raise ValueError(f"{whole} whole rows, but there are {pieces} pieces: give fewer, or no embedding_codes.")
    coded = CodedEmbedding(whole, pieces - whole, codes, width)
    coded.whole.weight.data.copy_(embedding.weight[:whole])
    rows = embedding.weight[whole:].detach().double().cpu()  # float64: the same codes wherever the memory lies
    weights = (counts[whole:].double().cpu() + 1).pow(FREQUENCY_POWER)
    damped = torch.eye(width, dtype=torch.double) if metric is None else _damped(metric.double().cpu())
    mean = weights @ rows / weights.sum()
    there, back = axes(rows - mean, weights, damped, codes)
    books, chosen = product_codes((rows - mean) @ there, weights, codes, coded.centroids)
    coded.codebooks.weight.data.copy_(books.flatten(0, 1))
    coded.turn.weight.data.copy_(back.T)
    coded.turn.bias.data.copy_(mean)
    coded.codes.copy_(chosen)
    return coded


def answer_metric(model: Any, examples: Encoded, skipped: Sequence[int]) -> Tensor:
    """(width, width) mean of g g^T, g being the gradient of the model's answer with respect to the row of a piece, over
    the pieces of `examples` but those with `skipped` ids: e^T M e is how much an error e in a row moves the answer (to
    the first order, squared). Of several classes, logits are summed with random signs: their squares add up, in the
    mean.
    """
    table, rows = architectures.word_embedding(model), []
    metric = torch.zeros(table.embedding_dim, table.embedding_dim, dtype=torch.double)
    signs, seen, special = torch.Generator().manual_seed(0), 0, torch.tensor(list(skipped), device=device())
    hook = table.register_forward_hook(lambda module, inputs, output: rows.append(output.requires_grad_()))
    model.to(device()).eval()
    for batch in in_order(examples, 32):
        batch = batch.to(device())
        logits = model(**batch.inputs).logits.float()
        sign = 2.0 * torch.randint(2, logits.shape, generator=signs) - 1
        (gradient,) = torch.autograd.grad((logits * sign.to(logits.device)).sum(), [rows.pop()])
        counted = batch.attention_mask.bool() & ~torch.isin(batch.input_ids, special)
        real = gradient[counted].double().cpu()  # (pieces, width)
        metric += real.T @ real
        seen += len(real)
    hook.remove()
    return metric / max(1, seen)


def _damped(metric: Tensor) -> Tensor:
    size = metric.diagonal().mean()
    one = torch.eye(len(metric), dtype=metric.dtype)
    return metric / size + DAMPING * one if size > 0 else one


def axes(rows: Tensor, weights: Tensor, metric: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """(width, width) two maps, there and back: in (rows - their mean) @ there the metric is the plain distance, no two
    directions are correlated, and each of `codes` places has its share of the variance, so that none is spoiled for
    bits while another wastes them (Ge, He, Ke and Sun 2013, doi 10.1109/CVPR.2013.379: eigenvalue allocation).
    """
    root = torch.linalg.cholesky(metric)
    near = rows @ root
    variance, turned = torch.linalg.eigh((near * weights[:, None]).T @ near / weights.sum())
    logs = variance.clamp(min=1e-9 * float(variance.max()) + 1e-30).log()
    places: list[list[int]] = [[] for _ in range(codes)]
    for i in reversed(range(len(logs))):  # the largest first, to the place that has the least
        roomy = [place for place in places if len(place) < len(logs) // codes]
        min(roomy, key=lambda place: float((logs[place] - logs[0]).sum())).append(i)
    turned = turned[:, [i for place in places for i in place]]
    return root @ turned, turned.T @ torch.linalg.inv(root)


def product_codes(rows: Tensor, weights: Tensor, codes: int, count: int) -> tuple[Tensor, Tensor]:
    """Centroids (codes, count, width / codes) for (n, width) rows with (n,) weights, and which one each row has at each
    place, (n, codes): Lloyd's rounds, place by place, from rows drawn by weight from a fixed seed.
    """
    start = torch.multinomial(weights, count, generator=torch.Generator().manual_seed(0))
    found = [_k_means(own.contiguous(), weights, own[start]) for own in rows.chunk(codes, dim=1)]
    return torch.stack([books for books, _ in found]), torch.stack([chosen for _, chosen in found], dim=1)


def _k_means(vectors: Tensor, weights: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    for _ in range(ROUNDS):
        centroids = _means(vectors, weights, nearest(vectors, centroids), centroids)
    return centroids, nearest(vectors, centroids)


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """(n,) index of the one of (count, d) centroids that lies nearest to each of (n, d) vectors."""
    bias = centroids.square().sum(1)
    return torch.cat([(2 * some @ centroids.T - bias).argmax(1) for some in vectors.split(ROWS_AT_ONCE)])


def _means(vectors: Tensor, weights: Tensor, chosen: Tensor, before: Tensor) -> Tensor:
    """The weighted mean of the vectors of each centroid; where it has none, what it was before."""
    mass = weights.new_zeros(len(before)).index_add_(0, chosen, weights)[:, None]
    sums = torch.zeros_like(before).index_add_(0, chosen, vectors * weights[:, None])
    return torch.where(mass > 0, sums / mass.clamp(min=1e-12), before)
