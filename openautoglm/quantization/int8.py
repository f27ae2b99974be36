"""INT8 with one scale a row or a column. NumPy alone: the runtime imports it."""

import numpy as np


def int8(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric INT8: the codes, and the scales with `axis` reduced to 1; weight is about codes * scales."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8).astype(np.float32) / 127
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
