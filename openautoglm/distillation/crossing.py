"""Texts made up of others: the beginning of one and the end of another.

A teacher answers any text, so a student need not see the same few thousand in every pass. These are made of the task's
own words in their own neighbourhoods, and nothing but the task's texts is needed for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import torch


def crossed(texts: Sequence[str], count: int, longest: int, generator: torch.Generator) -> list[str]:
    """`count` new texts: the words of the next text up to a random place, then a random one's from a random place on.

    Words are what white space parts; those past the first `longest` are not read, and not used. The same generator
    state gives the same texts.
    """
    words = [text.split()[:longest] or [text] for text in texts]
    made = []
    for first in islice(cycle(words), count):
        second = words[_below(len(words), generator)]
        end, start = 1 + _below(max(1, len(first) - 1), generator), _below(len(second), generator)
        made.append(" ".join([*first[:end], *second[start:]]))
    return made


def _below(most: int, generator: torch.Generator) -> int:
    return int(torch.randint(most, (), generator=generator))
