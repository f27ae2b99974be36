"""Mixed precision: a number format for each part, by what its rounding costs and saves."""

from __future__ import annotations

from collections.abc import Iterable

from openautoglm.sensitivity import Entry


def choose_formats(
    entries: Iterable[Entry], *, max_bytes: int | None = None, max_loss: float | None = None
) -> dict[str, str]:
    """A precision plan: every part starts in its largest format, and the cheapest step down, in loss per byte, is taken
    until the weights fit into `max_bytes`, or as long as the sum of losses stays within `max_loss`. Give one of them.

    The losses of single parts are taken to add up, and a loss below 0 (noise) counts as 0. ValueError where even the
    smallest formats do not fit.
    """
    if (max_bytes is None) == (max_loss is None):
        raise ValueError(f"max_bytes is {max_bytes} and max_loss is {max_loss}: give one of them.")
    steps = _ladders(entries)
    at = dict.fromkeys(steps, 0)
    size = sum(ladder[0].bytes for ladder in steps.values())
    loss = sum(max(0.0, ladder[0].loss) for ladder in steps.values())
    while max_bytes is None or size > max_bytes:
        down = [
            (_rise(ladder, at[part], i) / max(1, ladder[at[part]].bytes - ladder[i].bytes), part, i)
            for part, ladder in steps.items()
            for i in range(at[part] + 1, len(ladder))
        ]
        if max_loss is not None:
            down = [(price, part, i) for price, part, i in down if loss + _rise(steps[part], at[part], i) <= max_loss]
        if not down:
            break
        _, part, i = min(down)
        loss += _rise(steps[part], at[part], i)
        size += steps[part][i].bytes - steps[part][at[part]].bytes
        at[part] = i
    if max_bytes is not None and size > max_bytes:
        raise ValueError(f"The weights take {size:,} bytes in their smallest formats, more than {max_bytes:,}.")
    return {part: steps[part][i].change for part, i in at.items()}


def _ladders(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The formats of each part, from the largest to the smallest."""
    ladders: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.change in ("fp32", "fp16", "int8", "int4"):
            ladders.setdefault(entry.part, []).append(entry)
    return {part: sorted(ladder, key=lambda entry: -entry.bytes) for part, ladder in ladders.items()}


def _rise(ladder: list[Entry], start: int, end: int) -> float:
    return max(0.0, ladder[end].loss) - max(0.0, ladder[start].loss)
