"""The suite's metrics as a Hugging Face `evaluate` module: usable wherever evaluate's modules are, without the hub."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from leaderboard.metrics import METRICS


class SuiteMetric(evaluate.Metric):
    """`SuiteMetric(config_name="accuracy").compute(predictions=..., references=...)` -> {"accuracy": 0.87}."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise ValueError(f"Metric {self.config_name!r} is unknown; known: {', '.join(METRICS)}.")
        return evaluate.MetricInfo(
            description=METRICS[self.config_name].__doc__ or "",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        score = METRICS[self.config_name]
        return {self.config_name: score(np.asarray(predictions), np.asarray(references))}
