"""card.yaml: who submits what, under which licence, and what stands behind it. All of it is text, and is shown as text.

Read with distrust: size before parsing, no aliases, no depth, no tags, every problem told at once.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from leaderboard.schema import Name, Strict

FILE: Final = "card.yaml"
MAX_BYTES: Final = 20_000
MAX_DEPTH: Final = 5
MARKUP = re.compile(r"<[/!?a-z][^<>]*>?|\{\{|\{%|\b(?:java|vb)script:", re.IGNORECASE)
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")  # Unicode categories that a page cannot show, or that reorder what it shows


class CardError(ValueError):
    """The card cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path} has problems:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


def unseen(text: str) -> list[str]:
    """The characters of a text that would not be shown as they are, as code points; a line break is fine.

    >>> unseen("naïve\\n"), unseen("a\\u202eb\\x00")
    ([], ['U+0000', 'U+202E'])
    """
    return [f"U+{ord(c):04X}" for c in sorted(set(text)) if c != "\n" and unicodedata.category(c) in UNSEEN]


def markup(text: str) -> str:
    """The first thing in a text that a browser or a template would take for markup; "" where there is none.

    >>> markup("a < b, and <b>bold</b>"), markup("f1 <0.9"), markup("{{ 7*7 }}"), markup("javascript: x")
    ('<b>', '', '{{', 'javascript:')
    """
    found = MARKUP.search(text)
    return found[0][:40] if found else ""


def _shown(text: str) -> str:
    if found := unseen(text):
        raise ValueError(f"holds characters that cannot be shown: {', '.join(found[:5])}")
    if tag := markup(text):
        raise ValueError(f"holds {tag!r}, which is markup: write plain text")
    return text


def _line(text: str) -> str:
    if "\n" in text:
        raise ValueError("takes one line")
    return _shown(text)


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), AfterValidator(_line)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(_shown)]


class Card(Strict):
    """What a submission says of itself."""

    name: Name
    kind: Literal["method", "artifact", "result"] = Field(
        description="method: code that we run; artifact: ONNX models that we measure; result: records of yours"
    )
    authors: list[Line] = Field(min_length=1, max_length=50)
    licence: Line = Field(description="of the code or the weights, as an SPDX name")
    paper: Words = Field(description='what is reproduced, with its arXiv number; "none" where there is none')
    kept: Words = Field(description="what of the published recipe is kept")
    left_out: Words = Field(description="what is left out or changed, and why")
    data: Words = Field(description="every text it was trained on: the task's own, and any other")
    hardware: Line = Field(description="where it was trained, or where the authors timed it")


def read_card(path: Path) -> Card:
    """The card at `path`; CardError lists every problem."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CardError(path, [f"it cannot be read ({error.strerror})"]) from None
    if len(raw) > MAX_BYTES:
        raise CardError(path, [f"it is larger than {MAX_BYTES:,} bytes: shorten its texts"])
    try:
        loaded = yaml.load(raw.decode("utf-8"), _Loader)
    except UnicodeDecodeError:
        raise CardError(path, ["it is not UTF-8 text"]) from None
    except yaml.YAMLError as error:
        raise CardError(path, [" ".join(str(error).split())[:300]]) from None
    if not isinstance(loaded, dict):
        raise CardError(path, [f"it is no table of {', '.join(Card.model_fields)}"])
    try:
        return Card.model_validate(loaded)
    except ValidationError as error:
        raise CardError(path, [_problem(found) for found in error.errors()]) from None


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{place[:80]}: unknown; the card has {', '.join(Card.model_fields)}"
    if error["type"] == "missing":
        return f"{place}: missing ({Card.model_fields[place].description or 'give it'})"
    return f"{place}: {error['msg'].removeprefix('Value error, ')} (given: {str(error['input'])[:60]!r})"


class _Loader(yaml.BaseLoader):
    """Every scalar is a string. No aliases: nine lines of them make a billion entries."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark = event.start_mark
        place = f"line {mark.line + 1}: " if mark else ""
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"{place}aliases (*) are not allowed; write it out")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"{place}nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: given twice: {', '.join(sorted(twice))[:80]}")
        return super().construct_mapping(node, deep)
