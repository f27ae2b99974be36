"""How many multiply-adds one text costs, by layer: what a smaller model promises, to stand beside what it delivers."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

LAYER = re.compile(r"\.(?:layers?|albert_layer_groups)\.(\d+)$")  # a module that is one layer of an encoder


def multiply_adds(model: Any, length: int) -> dict[str, int]:
    """Multiply-adds of matrix products (linears, and attention's two) for one text of `length` pieces.

    By "layer 0", "layer 1", ..., "rest" (embedding, head) and "total". FLOPs are twice as many. Counted while the model
    runs (torch.utils.flop_counter), so that every family, width and shared layer is counted as often as it is used.
    ValueError where the model takes no text of this length.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    model.config._attn_implementation = "eager"  # fused attention hides its products from the counter
    ids = torch.ones(1, length, dtype=torch.long)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:
        raise ValueError(f"The model does not run on {length} word pieces ({str(error).splitlines()[0]}).") from None
    found = {}
    for name, counts in counter.get_flop_counts().items():
        if match := LAYER.search(name):
            found[f"layer {match[1]}"] = sum(counts.values()) // 2
    total = counter.get_total_flops() // 2
    return found | {"rest": total - sum(found.values()), "total": total}
