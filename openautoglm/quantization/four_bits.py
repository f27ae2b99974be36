"""Weights stored in 4 bits, or 3, and computed in INT8: half the bytes, or less, at INT8's speed.

A weight is scale * multiplier * code: a float32 scale for each row (an output channel, or a word), a whole multiplier
from 1 to 15 for each block of 16 weights, and a code from -8 to 7 for each weight ("int4"), or from -4 to 3 ("int3").
Scales in two levels are those of QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3); here the second level is
whole, so that multiplier * code is an INT8 code. The runtime multiplies them out once, when it loads the model, and
computes with INT8 from there on.

17 bytes hold 32 weights (4.25 bits each): 16 of codes and one of multipliers, of one block in the lower halves of the
bytes and of the next one in the upper halves. Codes of 3 bits lie in them just so: a packed artifact's Huffman codes
(openautoglm.artifact) bring them to 3.1 bits a weight, and those of 4 bits to 4.1. They lie beside the graph
(openautoglm.quantization.beside).

ONNX Runtime's own operator for 4-bit linears, MatMulNBits, unpacks its weights in every call, and is 2.3 to 3.3 times
slower than INT8 (384 x 1536, blocks of 32, 16 to 128 pieces, one core with AVX512-VNNI).
"""

from __future__ import annotations

import numpy as np

BLOCK = 16
MOST = 15  # of the multipliers
BITS = {"int4": 4, "int3": 3}  # of the codes in each format
BYTES = 17 / 32  # a weight


def int8(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) -> the INT8 codes (rows, width) that so many bits hold, and scales (rows, 1): rows is near their
    product.

    >>> codes, scale = int8(np.array([[0.5, -1.0, 0.26]]), bits=4)
    >>> codes.tolist(), round(scale.item(), 4)
    ([[56, -112, 28]], 0.0089)
    """
    codes, multipliers, scale = _codes(rows, bits)
    return (codes * multipliers).reshape(len(rows), -1)[:, : rows.shape[1]].astype(np.int8), scale


def pack(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) -> bytes (rows, pairs of blocks, 17), and scales (rows, 1)."""
    codes, multipliers, scale = _codes(rows, bits)
    nibbles = np.concatenate([codes + 8, multipliers], axis=-1).astype(np.uint8)
    return nibbles[:, :, 0] | nibbles[:, :, 1] << 4, scale


def unpack(packed: np.ndarray, width: int) -> np.ndarray:
    """The INT8 codes (rows, width) in what `pack` gave."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=2).astype(np.int8)  # (rows, pairs, 2, 17)
    codes = (nibbles[..., :BLOCK] - np.int8(8)) * nibbles[..., BLOCK:]
    return codes.reshape(len(packed), -1)[:, :width]


def _codes(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, width) -> codes (rows, pairs, 2, 16), multipliers (rows, pairs, 2, 1), all whole; scales (rows, 1).

    A pair is two blocks side by side; the last ones are filled with zeros. A block's multiplier is the best of three
    around the one that its largest weight asks for.
    """
    count, width = rows.shape
    most, middle = 2 ** (bits - 1) - 1, 2 ** (bits - 1) - 0.5  # the largest code, and between those of both signs
    blocks = np.pad(rows, ((0, 0), (0, -width % (2 * BLOCK)))).astype(np.float32).reshape(count, -1, 2, BLOCK)
    largest = np.abs(blocks).max(-1, keepdims=True)
    scale = np.maximum(largest.max((1, 2), keepdims=True), 1e-8) / np.float32(MOST * middle)
    asked = np.rint(largest / (middle * scale))

    def coded(multipliers: np.ndarray) -> np.ndarray:
        codes = blocks / (scale * multipliers)
        return np.clip(np.rint(codes, out=codes), -most - 1, most, out=codes)

    def error(multipliers: np.ndarray) -> np.ndarray:
        missed = coded(multipliers)
        missed *= scale * multipliers
        missed -= blocks
        return np.einsum("...i,...i", missed, missed)[..., None]

    tried = [np.clip(asked + shift, 1, MOST) for shift in (0, -1, 1)]
    best = np.choose(np.argmin([error(multipliers) for multipliers in tried], 0), tried)
    return coded(best), best, scale.reshape(count, 1)
