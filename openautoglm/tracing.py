"""A PyTorch model as an ONNX graph."""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from openautoglm import segments
from openautoglm.dynamic import Exits, WithExits
from openautoglm.quantization import onnx_graph
from openautoglm.task import SHORTEST

OPSET = 17


class _Logits(nn.Module):
    """Ids and mask in, the bare logits out: what the ONNX graph computes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class _Ends(nn.Module):
    """Ids and mask in, `segments.names` out. The scores' mask is made of the mask alone, so that every segment can."""

    def __init__(self, joint: WithExits) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        hidden = (1 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        states, logits, confidences = self.joint(input_ids, attention_mask, hidden)
        exits = zip(logits, confidences, states, strict=False)  # the last logits are the end's
        return (*(output for exit in exits for output in exit), logits[-1])


def graph(model: Any) -> onnx.ModelProto:
    """The float32 graph of a model: `input_ids` and `attention_mask` in, `logits` out."""
    return _traced(model, _Logits(model), ["logits"])


def graph_with_exits(model: Any, exits: Exits) -> onnx.ModelProto:
    """The float32 graph of a model with its exits, whose outputs are those of `segments.names`."""
    return _traced(model, _Ends(WithExits(model, exits)), segments.names(len(exits.after)))


def _traced(model: Any, module: nn.Module, names: list[str]) -> onnx.ModelProto:
    """`module` around `model` as an ONNX graph with free batch and length; equal weights are stored once."""
    config = model.config
    implementation, config._attn_implementation = config._attn_implementation, "eager"
    buffer = io.BytesIO()
    ids, mask = torch.zeros(2, SHORTEST, dtype=torch.long), torch.ones(2, SHORTEST, dtype=torch.long)
    sequences = ["input_ids", "attention_mask", *(name for name in names if name.startswith("hidden"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings of transformers' own code
        torch.onnx.export(
            module.eval(),  # the exporter puts this mode back afterwards
            (ids, mask),
            buffer,  # type: ignore[arg-type]  # the exporter that is not dynamo's writes to any file
            input_names=["input_ids", "attention_mask"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in names}
            | {name: {0: "batch", 1: "length"} for name in sequences},
            opset_version=OPSET,
            dynamo=False,
        )
    config._attn_implementation = implementation
    traced = onnx.load_from_string(buffer.getvalue())
    onnx_graph.share_equal_weights(traced)
    return traced
