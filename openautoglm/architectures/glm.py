"""GLM (arXiv 2406.12793, transformers' Glm): a decoder whose last piece is read by a classification head.

Heads share keys and values in groups, and a whole group is the unit that goes: its query heads, its key and its value.
Nothing is cut inside a head, of which rotary embedding turns only a part. Gate and up are one linear of 2 F rows;
neuron j owns rows j and j + F. The output linears have no bias, so nothing is left of a dropped sub-layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.onnx import register_custom_op_symbolic, symbolic_helper, symbolic_opset13
from transformers import GlmConfig, GlmForSequenceClassification

from openautoglm.parts import Dropped, Layer, Sublayer, dropped

READS = "last"


class PaddedGlmForSequenceClassification(GlmForSequenceClassification):
    """Pads by the mask: transformers' class takes the last piece that is not `pad_token_id` for the text's last."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """(batch, length) ids and mask -> .logits (batch, outputs)."""
        if attention_mask is not None:
            padding: Any = self.config.pad_token_id
            input_ids = input_ids.masked_fill(attention_mask == 0, padding)
        return super().forward(input_ids, attention_mask, use_cache=False, **options)


def build(config: dict[str, Any]) -> Any:
    """A classifier with fresh weights in the shape of `config`."""
    if config.get("pad_token_id") is None:
        raise ValueError("A glm classifier needs pad_token_id in its config: it reads the last piece before padding.")
    return PaddedGlmForSequenceClassification(GlmConfig.from_dict({**config, "dtype": "float32"}))


def layers(model: Any) -> list[Layer]:
    """Handles into every decoder layer."""
    return [
        Layer(
            attention=dropped(block.self_attn)
            if isinstance(block.self_attn, Dropped)
            else Sublayer(
                (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj),
                block.self_attn.o_proj,
                width=block.self_attn.num_key_value_groups * block.self_attn.head_dim,
                drop=partial(setattr, block, "self_attn", Dropped(attention=True)),
            ),
            ffn=dropped(block.mlp)
            if isinstance(block.mlp, Dropped)
            else Sublayer(
                (block.mlp.gate_up_proj,),
                block.mlp.down_proj,
                width=1,
                copies=2,
                drop=partial(setattr, block, "mlp", Dropped()),
            ),
        )
        for block in model.model.layers
    ]


def trim_positions(model: Any, length: int) -> None:
    """Positions are angles: nothing is stored."""


def shape(model: Any) -> dict[str, Any]:
    """Query heads are counted as heads, their groups beside them."""
    groups = [layer.heads for layer in layers(model)]
    shared = model.config.num_attention_heads // model.config.num_key_value_heads
    return {"heads": [shared * count for count in groups], "key_value_heads": groups}


def _repeat_interleave(g: Any, x: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Any:
    """For the ONNX exporter, whose own adds the rank to a negative `dim` in place, in a constant that others share."""
    value = symbolic_helper._maybe_get_const(dim, "i")
    fresh = g.op("Constant", value_t=torch.tensor(value)) if isinstance(value, int) else dim
    return symbolic_opset13.repeat_interleave(g, x, repeats, fresh, output_size)


register_custom_op_symbolic("aten::repeat_interleave", _repeat_interleave, 13)  # the rotary embedding uses it
