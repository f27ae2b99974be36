"""Score every artifact of a cell on the exam split. `python -m pipelines.evaluate METHOD TASK SEED`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from leaderboard.schema import Interval, Quality
from leaderboard.statistics import bootstrap_interval
from openautoglm import artifact
from openautoglm.runtime import Predictor
from openautoglm.task import Split
from pipelines import params
from pipelines.data import load_exam
from pipelines.errors import UserError, stage
from pipelines.files import write_json
from pipelines.params import paths


def main() -> None:
    """Write runs/<task>/<method>/<seed>/{predictions.json, quality.json}."""
    method, task_name, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    exam, metrics = load_exam(task_name), params.load().task(task_name).metrics
    qualities = {
        deployment: score(paths.artifacts(task_name, method, seed) / deployment, exam, metrics, seed)
        for deployment in params.load().deployments_of(method)
    }
    cell = paths.cell(task_name, method, seed)
    write_json(cell / "predictions.json", {name: quality.model_dump() for name, quality in qualities.items()})
    scores = {name: {metric: q.scores[metric].value for metric in metrics} for name, q in qualities.items()}
    write_json(cell / "quality.json", scores)


def score(folder: Path, exam: Split, metrics: list[str], seed: int) -> Quality:
    """An artifact's answers to the exam, and their scores.

    Batch 1, as the artifact is timed and used: dynamic INT8 scales depend on what stands in the batch. One thread: two
    of them spin while they wait, and would take the core of the cell that trains beside this one.
    """
    from tqdm import tqdm

    predictor = Predictor(folder, threads=1)
    classify = predictor.manifest.kind == "classification"
    predictions: list[float] = []
    for text in tqdm(exam.texts, desc=f"exam {folder.name}", unit="text", disable=None):
        logits = predictor.logits([text])[0]
        if not np.isfinite(logits).all():
            raise UserError(
                f"{folder} answers {logits.tolist()} to text {len(predictions) + 1} of the exam; answers are finite "
                "numbers. Its training or its quantization went wrong: a lower learning rate may help."
            )
        predictions.append(float(logits.argmax()) if classify else round(float(logits[0]), 5))
    labels = [float(label) for label in exam.labels]
    scores = {metric: _score(predictions, labels, metric) for metric in metrics}
    return Quality(seed=seed, artifact_sha256=artifact.sha256(folder), predictions=predictions, scores=scores)


def _score(predictions: list[float], labels: list[float], metric: str) -> Interval:
    """The score by the evaluate module, with our bootstrap interval."""
    from pipelines.suite_metric import SuiteMetric

    module = SuiteMetric(config_name=metric, keep_in_memory=True)
    value = module.compute(predictions=predictions, references=labels)[metric]
    return bootstrap_interval(predictions, labels, metric).model_copy(update={"value": value})


if __name__ == "__main__":
    stage(main)
