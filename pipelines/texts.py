"""What counts as the same text, and where a text falls: pure functions of the text alone."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata


def clean(text: str) -> str:
    """Readable text: HTML entities resolved, control characters and broken bytes removed, white space folded.

    >>> clean(" rock &amp;amp; roll\\x00\\t is\\ufffd here ")
    'rock & roll is here'
    """
    text = html.unescape(html.unescape(text))  # twice: some sources escaped escaped text
    kept = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", text) if c != "\ufffd")
    return " ".join("".join(c for c in kept if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")).split())


BEGINNING = 40  # words: articles that begin alike for so long are editions of one article, and a model sees little more


def fold(text: str) -> str:
    """What near-identical texts share: their beginning, with case, white space and punctuation folded.

    A text without any letter or digit (":-)") is its own fold.

    >>> fold("The Rock -- is DESTINED!") == fold("the rock is destined")
    True
    """
    words = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).split()
    return " ".join(words[:BEGINNING]) or text


def position(folded: str) -> float:
    """A text's place in [0, 1), by its hash: the same on every machine and in every order.

    >>> 0 <= position("a") < 1
    True
    """
    # 53 bits: what a float holds exactly, so that the result stays below 1
    return (int.from_bytes(hashlib.sha256(folded.encode("utf-8")).digest()[:8], "big") >> 11) / 2**53
