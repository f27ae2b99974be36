"""Word rows in product codes (openautoglm.codebooks), multiplied out once, when the runtime loads the model.

From there on they are INT8 with a scale a row, as other word tables are: a text looks its pieces up, where it would
have to name, join and turn them. That takes a byte a weight in memory, and none on disk. NumPy alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from openautoglm.quantization.int8 import int8

AT_ONCE = 2048  # pieces: more would not be faster, and take more memory


class CodedRows(NamedTuple):
    """The weights of parts.CodedEmbedding but its whole rows."""

    codes: np.ndarray  # (pieces, places) uint8
    books: np.ndarray  # (places * centroids, width / places)
    turn: np.ndarray  # (width, width), rows being outputs
    bias: np.ndarray  # (width,)


def multiplied_out(coded: CodedRows, whole: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One table: `whole` rows of INT8 codes (rows, width) with their scales (rows, 1), then those that `coded` names,
    rounded to the same form.
    """
    first, (pieces, places), width = len(whole), coded.codes.shape, len(coded.turn)
    books = coded.books.reshape(places, -1, coded.books.shape[1])
    table, table_scales = np.empty((first + pieces, width), np.int8), np.empty((first + pieces, 1), np.float32)
    table[:first], table_scales[:first] = whole, scales
    for start in range(0, pieces, AT_ONCE):
        codes = coded.codes[start : start + AT_ONCE]
        named = books[np.arange(places), codes].reshape(-1, width)
        rows = slice(first + start, first + start + len(codes))
        table[rows], table_scales[rows] = int8(named @ coded.turn.T + coded.bias, axis=1)
    return table, table_scales
