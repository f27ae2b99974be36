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


def multiplied_out(coded: CodedRows) -> tuple[np.ndarray, np.ndarray]:
    """INT8 codes (pieces, width) and scales (pieces, 1) of the rows that product codes name."""
    pieces, places = coded.codes.shape
    books = coded.books.reshape(places, -1, coded.books.shape[1])
    rows, scales = np.empty((pieces, len(coded.turn)), np.int8), np.empty((pieces, 1), np.float32)
    for start in range(0, pieces, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        named = books[np.arange(places), coded.codes[some]].reshape(-1, len(coded.turn))
        rows[some], scales[some] = int8(named @ coded.turn.T + coded.bias, axis=1)
    return rows, scales
