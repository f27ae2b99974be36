"""Valid files made slightly wrong, seeded: trees (what JSON and YAML hold) and bytes."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**63, 10**400, 1e308, -1e308, 5e-324, math.nan, math.inf, "", " ", "0", "x" * 5000,
    "\x00", "\ud800", "\u202e<script>", "../../etc/passwd", "--help", "null", "1e999", [], {}, [[]], [None],
    {"": None}, {"a": {}},
]  # fmt: skip
PIECES = [
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"'", b",", b"\t", b"\r", b"\n", b"{", b"}",
    b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"-", b"NaN", b"Infinity", b"1e999", b"\\ud800", b"&a *a",
    b"!!python/object:os.system x", b"x" * 200_000,
]  # fmt: skip


def tree(draw: Random, value: Any) -> Any:
    """A copy with one to three nodes removed, renamed, moved, or replaced by something odd."""
    changed = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(changed))
        if not places:
            return draw.choice(ODD)
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, name = draw.choice(places)
            holder[key] = copy.deepcopy(other[name]) if _there(other, name) else None
        elif kind == 2 and isinstance(holder, dict):
            holder[draw.choice(["", "x", f"{key}s", "\ud800", key.upper() if isinstance(key, str) else "y"])] = (
                holder.pop(key)
            )
        elif kind == 3 and isinstance(holder[key], float):
            holder[key] = draw.choice([-holder[key], holder[key] * 10**6, holder[key] / 10**9, 0, str(holder[key])])
        elif kind == 4 and isinstance(holder[key], list):
            holder[key] = holder[key] * draw.choice([0, 2, 50])
        else:
            holder[key] = copy.deepcopy(draw.choice(ODD))
    return changed


def _places(value: Any) -> Any:
    """(holder, key) of every node; of a long list only some, so that numbers do not outweigh the rest."""
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:4]
        if isinstance(value, list)
        else []
    )
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _there(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def raw(draw: Random, data: bytes) -> bytes:
    """A copy with one to four bytes or pieces changed, inserted, removed or repeated, or cut short."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind == 1:
            changed[at:at] = draw.choice(PIECES)
        elif kind == 2:
            del changed[at : at + draw.randint(1, 40)]
        elif kind == 3:
            changed[at:at] = changed[at : at + draw.randint(1, 200)]
        elif draw.random() < 0.3:
            del changed[at:]
    return bytes(changed)
