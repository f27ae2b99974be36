"""Ranges over a sliding window, and the scale and zero point of ONNX Runtime's own operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from openautoglm.quantization.observers import SlidingRange, scale_and_zero_point


def test_a_batch_is_forgotten_after_the_window():
    seen = SlidingRange(3)
    found = []
    for low, high in [(-5, 1), (-1, 2), (-2, 9), (-1, 3), (-1, 4)]:
        seen.observe(torch.tensor([float(low), float(high)]))
        found.append((seen.low, seen.high))
    assert found == [(-5, 1), (-5, 2), (-5, 9), (-2, 9), (-2, 9)]


def test_a_window_without_batches_is_refused():
    with pytest.raises(ValueError, match="0 batches"):
        SlidingRange(0)


@pytest.mark.parametrize("values", [[-1.5, 3.0], [0.5, 2.0], [-3.0, -1.0], [0.0, 0.0], [-0.17, 41.0]])
def test_scale_and_zero_point_are_the_runtimes(values):
    import onnxruntime

    helper, kinds = onnx.helper, onnx.TensorProto
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"])
    outputs = [("codes", kinds.UINT8, [2]), ("scale", kinds.FLOAT, []), ("zero", kinds.UINT8, [])]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, [2])],
        [helper.make_tensor_value_info(*output) for output in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    x = np.array(values, dtype=np.float32)
    _, scale, zero = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    low, high = torch.tensor(x).aminmax()
    ours = scale_and_zero_point(low, high)
    assert float(ours[0]) == pytest.approx(float(scale), rel=1e-6)
    assert int(ours[1]) == int(zero)
