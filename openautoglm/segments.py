"""A model with exits as ONNX segments, one up to each exit and one to the end: cutting the graph, running the pieces.

Segment i takes (`input_ids`, or the segment before's `hidden`) and `attention_mask`, and gives `logits` and, but for
the last one, `confidence` and `hidden`. In the whole graph these names carry the exit's number: `logits_0`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from openautoglm.route import Route

if TYPE_CHECKING:
    import onnx

EXIT_OUTPUTS = ("logits", "confidence", "hidden")


def names(exits: int) -> list[str]:
    """The outputs of the whole graph: those of every exit, and the end's `logits`."""
    return [*(f"{name}_{i}" for i in range(exits) for name in EXIT_OUTPUTS), "logits"]


def cut(graph: onnx.ModelProto, exits: int) -> list[onnx.ModelProto]:
    """The segments of a graph whose outputs are `names(exits)`."""
    from onnx.utils import Extractor

    extractor = Extractor(graph)
    mask = ["attention_mask"] * any(given.name == "attention_mask" for given in graph.graph.input)
    begins = ["input_ids", *(f"hidden_{i}" for i in range(exits))]
    ends = [*([f"{name}_{i}" for name in EXIT_OUTPUTS] for i in range(exits)), ["logits"]]
    return [extractor.extract_model([begin, *mask], end) for begin, end in zip(begins, ends, strict=True)]


class Segments:
    """A session of runtime.Predictor. `taken` counts the texts that left at each end; the last one is the model's."""

    def __init__(self, sessions: list[Any], route: Route) -> None:
        if len(sessions) != len(route.thresholds) + 1:
            raise ValueError(f"{len(sessions)} segments, but thresholds for {len(route.thresholds)} exits.")
        self.sessions, self.route = sessions, route
        # A segment without attention takes no mask.
        self.inputs = [[wanted.name for wanted in session.get_inputs()] for session in sessions]
        self.taken = [0] * len(sessions)

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """(n, length) ids and mask -> (n, outputs) logits, each text's from where it left."""
        given, mask, lengths, rows = input_ids, attention_mask, attention_mask.sum(1), np.arange(len(input_ids))
        answers: list[tuple[np.ndarray, np.ndarray]] = []
        for i, session in enumerate(self.sessions):
            logits, *exit_outputs = session.run(None, dict(zip(self.inputs[i], (given, mask), strict=False)))
            done = self.route.leaves(i, lengths[rows], exit_outputs[0]) if exit_outputs else np.ones(len(rows), bool)
            answers.append((rows[done], logits[done]))
            self.taken[i] += int(done.sum())
            rows = rows[~done]
            if not len(rows):
                break
            longest = lengths[rows].max()  # what stays may be shorter: its padding goes
            given, mask = exit_outputs[1][~done, :longest], mask[~done, :longest]
        order = np.concatenate([index for index, _ in answers]).argsort()
        return np.concatenate([found for _, found in answers])[order]


def load(described: dict[str, Any], open_session: Callable[[str], Any]) -> Segments:
    """The segments that a manifest's `exits` describes, each opened by its name."""
    listed = described.get("segments", [])
    return Segments([open_session(name) for name in listed], Route.read(described.get("route")))
