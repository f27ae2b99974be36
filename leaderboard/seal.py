"""A record carries the hash of its own file: one byte changed, a blank included, and the seal no longer fits.

The hash is taken over the text with zeros in the seal's place, so it holds for records of any later version too. It
finds what was edited by accident or by hand, not who seals a forgery anew: that is found by making the row again.
"""

from __future__ import annotations

import hashlib
import re

from leaderboard.schema import Record

ZEROS = "0" * 64
SEAL = re.compile(rb'"seal": ?"([0-9a-f]{64})"\s*\}\s*\Z')  # the last field of the file


def sealed(record: Record) -> str:
    """The text of the record's file, with its seal."""
    text = record.model_copy(update={"seal": ZEROS}).model_dump_json(indent=1) + "\n"
    head, _, tail = text.rpartition(ZEROS)
    return head + hashlib.sha256(text.encode()).hexdigest() + tail


def fits(raw: bytes) -> bool | None:
    """Whether a record's file is as it was sealed; None where it has no seal."""
    if not (found := SEAL.search(raw)):
        return None
    start, end = found.span(1)
    return hashlib.sha256(raw[:start] + ZEROS.encode() + raw[end:]).hexdigest().encode() == found[1]
