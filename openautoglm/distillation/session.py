"""What surrounds training and is no concern of a method: seed, checkpoints, learning curves.

The caller opens a session; every `fit` inside it finds it here. Without one, `fit` is seeded with 0, keeps no
checkpoint and tells nobody. What a method draws outside `fit` hangs on torch's own seed, which the caller sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Point(NamedTuple):
    """One point of a learning curve: mean training loss since the last point, and the score on dev, where taken."""

    stage: str
    step: int
    loss: float | None
    dev_score: float | None


@dataclass
class Session:
    """One compression. `fits` counts the calls of `fit`, which names their checkpoints and seeds them."""

    seed: int = 0
    checkpoints: Path | None = None
    on_point: Callable[[Point], None] = lambda point: None
    fits: int = 0
    steps: int = 0


_current: ContextVar[Session | None] = ContextVar("session", default=None)


@contextmanager
def open_session(session: Session) -> Iterator[Session]:
    """Make `session` the one that every `fit` inside uses."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def current() -> Session:
    """The open session, or a fresh one."""
    return _current.get() or Session()
