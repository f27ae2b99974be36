"""A precision plan: which part of a model is stored in which number format.

A part is `embedding` (tables behind Gather, and the projection of a factorised one), `head`, `attention` and `ffn` of
all layers, or of one: `layer.3.ffn`, which goes before `ffn`. Formats: "int8" (weights QInt8 with one scale a channel
or a row, activations dynamic INT8), "int4" and "int3" (stored in so many bits, computed as "int8":
openautoglm.quantization.four_bits; of an embedding the word table alone, the rest is "int8"), "fp16" (stored in 16
bits, computed in float32, since float16 arithmetic is 3 to 4 times slower on most CPUs), "fp32".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from openautoglm.quantization import four_bits

Group = Literal["embedding", "attention", "ffn", "head"]
GROUPS: tuple[Group, ...] = get_args(Group)
INTEGER = (*four_bits.BITS, "int8")  # computed as INT8
FORMATS = (*INTEGER, "fp16", "fp32")
LAYER = re.compile(r"layer\.(\d+)\.(attention|ffn)")


def check_plan(plan: Mapping[str, str]) -> None:
    """ValueError where a plan names a part or a format that does not exist."""
    unknown = [
        f"{name}: {number_format}"
        for name, number_format in plan.items()
        if not (name in GROUPS or LAYER.fullmatch(name)) or number_format not in FORMATS
    ]
    if unknown:
        raise ValueError(
            f"Plan has {unknown}; parts are {GROUPS} and 'layer.0.ffn' for one layer's, formats {FORMATS}."
        )


def format_of(plan: Mapping[str, str], name: str) -> str:
    """The format of a part: its own in the plan, else its group's, else float32."""
    return plan.get(name) or plan.get(name.rsplit(".", 1)[-1], "fp32")


def linear_format(plan: Mapping[str, str], name: str) -> str:
    """The format of a part's linears: the part's, but INT8 for the projection of an embedding in fewer bits."""
    found = format_of(plan, name)
    return "int8" if name == "embedding" and found in four_bits.BITS else found
