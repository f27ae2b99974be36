"""MLflow, and nothing but: the only importer of it. Runs are a view of the records and can be made again from them.

One experiment a suite version; in it a parent run a method and profile, and a child a task and seed. A child is open
until the hash of its record is its tag (pipelines/track.py).
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard.schema import HistoryPoint

SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}mlflow.db"
BATCH = 1000  # metrics that one MLflow call takes
CELL, RECORD = "cell", "record_sha256"  # tags


class TrackingError(RuntimeError):
    """The tracking server or its store cannot be used now."""


class Cell(NamedTuple):
    """What one child run stands for."""

    suite_version: int
    profile: str
    method: str
    task: str
    seed: int

    @property
    def parent(self) -> str:
        """The key of the parent run."""
        return f"{self.profile}/{self.method}"

    @property
    def key(self) -> str:
        """The key of the child run."""
        return f"{self.parent}/{self.task}/{self.seed}"


class Store:
    """One experiment of the tracking store. Every method raises TrackingError where the store cannot be used."""

    def __init__(self, suite_version: int) -> None:
        """Open, or create, the experiment of a suite version at MLFLOW_TRACKING_URI (default: sqlite:///mlflow.db)."""
        # before the import, which reads them: no telemetry, and a server that is away is noticed in seconds
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        with _reaching(self.uri):
            from mlflow import MlflowClient

            self.client = MlflowClient(self.uri)
            self.experiment = self._experiment(f"openautoglm suite {suite_version}")

    def _experiment(self, name: str) -> str:
        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        artifacts = None  # a server has its own place for them
        if self.uri.startswith(SQLITE):
            artifacts = (Path(self.uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()
        return str(self.client.create_experiment(name, artifacts))

    def closed(self) -> set[tuple[str, str]]:
        """(cell key, record hash) of every child that is complete."""
        with _reaching(self.uri):
            runs = self._search(f"tags.{RECORD} != ''")
        return {(run.data.tags[CELL], run.data.tags[RECORD]) for run in runs}

    def child(self, cell: Cell) -> str:
        """The open run of a cell; a new one where none is open."""
        with _reaching(self.uri):
            for run_id in self._open(cell):
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            return self._new_child(cell)

    def fresh_child(self, cell: Cell) -> str:
        """A new run of a cell. Open ones, of trainings that never came to a record, are deleted."""
        with _reaching(self.uri):
            for run_id in self._open(cell):
                self.client.delete_run(run_id)
            return self._new_child(cell)

    def _open(self, cell: Cell) -> list[str]:
        runs = self._search(f"tags.{CELL} = '{cell.key}'")
        return [run.info.run_id for run in runs if RECORD not in run.data.tags]

    def _new_child(self, cell: Cell) -> str:
        facts = {"method": cell.method, "task": cell.task, "seed": str(cell.seed), "profile": cell.profile}
        tags = facts | {CELL: cell.key, "mlflow.parentRunId": self._parent(cell)}
        return self._create(f"{cell.method} {cell.task} {cell.seed}", tags)

    def _parent(self, cell: Cell) -> str:
        for run in self._search(f"tags.{CELL} = '{cell.parent}'"):
            return str(run.info.run_id)
        tags = {"method": cell.method, "profile": cell.profile, CELL: cell.parent}
        run_id = self._create(f"{cell.method} ({cell.profile})", tags)
        self.client.set_terminated(run_id)
        return run_id

    def _create(self, name: str, tags: dict[str, str]) -> str:
        return str(self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id)

    def _search(self, filter_string: str) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], filter_string, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def log_points(self, run_id: str, points: Iterable[HistoryPoint], *, skip_logged: bool = False) -> None:
        """A learning curve; with `skip_logged`, only the steps that the run does not have yet."""
        from mlflow.entities import Metric

        values = {(key, point.step): value for point in points for key, value in _curve(point).items()}
        with _reaching(self.uri):
            for key in {key for key, _ in values} if skip_logged else ():
                for metric in self.client.get_metric_history(run_id, key):
                    values.pop((key, metric.step), None)
            metrics = [Metric(key, value, _now(), step) for (key, step), value in values.items()]
            for start in range(0, len(metrics), BATCH):
                self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def log_figures(self, run_id: str, figures: dict[str, float], params: dict[str, str], tags: dict[str, str]) -> None:
        """Final figures, parameters and tags."""
        from mlflow.entities import Metric, Param, RunTag

        with _reaching(self.uri):
            self.client.log_batch(
                run_id,
                metrics=[Metric(_name(key), value, _now(), 0) for key, value in figures.items()],
                params=[Param(key, value[:500]) for key, value in params.items()],
                tags=[RunTag(key, value[:5000]) for key, value in tags.items()],
            )

    def log_texts(self, run_id: str, texts: dict[str, str]) -> None:
        """Small text files as artifacts."""
        with _reaching(self.uri):
            for name, text in texts.items():
                self.client.log_text(run_id, text, name)

    def close(self, run_id: str, record_sha256: str | None = None) -> None:
        """End a run; with the hash of its record it is complete, and is never opened again."""
        with _reaching(self.uri):
            if record_sha256:
                self.client.set_tag(run_id, RECORD, record_sha256)
            self.client.set_terminated(run_id)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Whatever goes wrong between here and the store becomes a TrackingError that names the store."""
    try:
        yield
    except Exception as error:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, (MlflowException, SQLAlchemyError, OSError)):
            raise
        message = f"MLflow at {uri}: {str(error).splitlines()[0][:160]}"
        raise TrackingError(re.sub(r"//[^/@\s]*@", "//", message)) from error  # no password in a message


def _curve(point: HistoryPoint) -> dict[str, float]:
    """Metric names and values of a point of a learning curve."""
    values = {"loss": point.loss, "dev_score": point.dev_score}
    return {_name(f"{point.stage}/{key}"): value for key, value in values.items() if value is not None}


def _name(key: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-./ ]", "_", key)


def _now() -> int:
    return int(time.time() * 1000)
