"""Product quantisation of the word embedding: a few bytes a piece, so that all pieces can stay.

The most frequent pieces keep whole rows: they are few, and most of a text. The row of another is cut into short
vectors, and each of these is replaced by one of 256 centroids that k-means finds for its place (Jégou, Douze and Schmid
2011, doi 10.1109/TPAMI.2010.57, section 3). Near is what hardly moves the model's answers, not what differs little.
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

ALONE, JOINED = 8, 8  # rounds of k-means in which a place looks at itself, and then at what the others miss
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
    books, chosen = product_codes(rows, weights, damped, codes, coded.centroids)
    coded.codebooks.weight.data.copy_(books.flatten(0, 1))
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


def product_codes(rows: Tensor, weights: Tensor, metric: Tensor, codes: int, count: int) -> tuple[Tensor, Tensor]:
    """Centroids (codes, count, width / codes) for (n, width) rows with (n,) weights, and which one each row has at each
    place, (n, codes): a local minimum of the weighted sum of e M e^T, e being a row's error and M the metric.

    Lloyd's rounds, place by place, from rows drawn by weight from a fixed seed. In the later ones a place makes up for
    what the others miss, as far as M joins them: for M = [[A, B], [B^T, C]] the best vector at the first place, where
    the second misses f, is the row's own plus f B^T A^-1 (so does GPTQ with rounding errors, arXiv 2210.17323, section
    3). A centroid that loses its last row stays where it is.
    """
    start = torch.multinomial(weights, count, generator=torch.Generator().manual_seed(0))
    places = torch.arange(rows.shape[1]).view(codes, -1)
    books = torch.stack([rows[start][:, place] for place in places])
    chosen, error = torch.zeros(len(rows), codes, dtype=torch.long), torch.zeros_like(rows)
    for turn in range(ALONE + JOINED + 1):
        for i, place in enumerate(places):
            own, wanted = metric[place][:, place], rows[:, place]
            if turn >= ALONE:
                missed = error @ metric[:, place] - error[:, place] @ own
                wanted = wanted + torch.linalg.solve(own, missed.T).T
            chosen[:, i] = nearest(wanted, books[i], own)
            if turn < ALONE + JOINED:
                books[i] = _means(wanted, weights, chosen[:, i], books[i])
            error[:, place] = rows[:, place] - books[i][chosen[:, i]]
    return books, chosen


def nearest(vectors: Tensor, centroids: Tensor, metric: Tensor) -> Tensor:
    """(n,) index of the one of (count, d) centroids that lies nearest to each of (n, d) vectors in a (d, d) metric."""
    scaled = centroids @ metric
    bias = (scaled * centroids).sum(1)
    return torch.cat([(2 * some @ scaled.T - bias).argmax(1) for some in vectors.split(ROWS_AT_ONCE)])


def _means(vectors: Tensor, weights: Tensor, chosen: Tensor, before: Tensor) -> Tensor:
    """The weighted mean of the vectors of each centroid; where it has none, what it was before."""
    mass = weights.new_zeros(len(before)).index_add_(0, chosen, weights)[:, None]
    sums = torch.zeros_like(before).index_add_(0, chosen, vectors * weights[:, None])
    return torch.where(mass > 0, sums / mass.clamp(min=1e-12), before)
