"""The rules of a submission. Each is one function: its name is its id, its docstring what it asks for.

All are asked, and all problems are told at once. What a rule finds is data: nothing submitted is run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from leaderboard.checks import code, folder, history, records
from leaderboard.checks.subject import Problem, Submission

__all__ = ["RULES", "Answer", "Problem", "Submission", "check"]

Rule = Callable[[Submission], Iterator[Problem]]
RULES: tuple[Rule, ...] = (*folder.RULES, *code.RULES, *records.RULES, *history.RULES)


@dataclass(frozen=True)
class Answer:
    """One rule's answer. `problems` is empty where it is kept."""

    rule: str
    asks: str
    problems: list[Problem]


def check(submission: Submission) -> list[Answer]:
    """Ask every rule."""
    return [answer(rule, submission) for rule in RULES]


def answer(rule: Rule, submission: Submission) -> Answer:
    """Ask one rule."""
    asks = " ".join((rule.__doc__ or "").split())
    return Answer(rule.__name__.replace("_", "-"), asks, list(rule(submission)))
