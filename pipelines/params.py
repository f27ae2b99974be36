"""params.yaml -> frozen models, and every path of the pipeline as one function."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from leaderboard.metrics import CLASSIFICATION, REGRESSION
from leaderboard.schema import DeploymentName, Name, Profile, Range, Strict
from pipelines.errors import UserError

# checked, for pip reads them: nothing that looks like an option may pass
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*$")]
Pin = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
RESERVED = {"finetune", "costs", "tasks"}  # folders that stand beside the methods' own


class Teacher(Strict):
    """The pretrained encoder that every method starts from, and how it is fine-tuned."""

    package: str
    folder: str
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(ge=1)


class TaskParams(Strict):
    """A task: where its texts come from (`source`, see pipelines/sources) and how it is scored."""

    title: str
    source: dict[str, Any]
    kind: Literal["classification", "regression"]
    labels: list[str] = Field(default=[])
    metrics: list[str] = Field(min_length=1)
    max_length: int = Field(ge=8, le=512)
    epochs: float = Field(
        gt=0, description="passes over the train split: the teacher's, and what each method may spend"
    )

    @model_validator(mode="after")
    def _labels_match_kind(self) -> TaskParams:
        if (self.kind == "classification") != (len(self.labels) >= 2):
            raise ValueError("a classification task lists at least two labels, a regression task none")
        return self

    @model_validator(mode="after")
    def _metrics_match_kind(self) -> TaskParams:
        known = CLASSIFICATION if self.kind == "classification" else REGRESSION
        if unknown := [metric for metric in self.metrics if metric not in known]:
            raise ValueError(f"{unknown} are no metrics of a {self.kind} task; known: {', '.join(known)}")
        return self


class Training(Strict):
    """How training runs on this machine."""

    threads: int = Field(ge=0, description="0: all cores")


class Measurement(Strict):
    """How long cost is measured: see docs/measurement.md."""

    threads: int = Field(ge=1)
    launches: int = Field(ge=1)
    launch_s: float = Field(gt=0)
    slot_s: float = Field(gt=0)
    warmup_s: float = Field(ge=0)
    window_s: float = Field(gt=0)
    max_texts: int = Field(ge=1)


class Carbon(Strict):
    """Declared watts (used where the hardware has no meter) and the grid that grams are stated for."""

    cpu_watts_per_core: Range
    memory_watts_per_gb: Range
    watts_source: str
    grid: str = Field(pattern="^[A-Z]{3}$")
    grid_year: int
    grid_g_per_kwh: float = Field(ge=0)


class Params(Strict):
    """The whole experiment."""

    suite_version: int
    profile: Profile
    teacher: Teacher
    packages: dict[Requirement, Pin]
    tasks: dict[Name, TaskParams] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=50)
    methods: dict[Name, dict[str, Any]] = Field(min_length=1)
    submitted: dict[Name, list[DeploymentName]] = Field(default={}, description="row that no stage makes -> its forms")
    deployments: dict[str, list[DeploymentName]]
    seeds: list[int] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    training: Training
    measurement: Measurement
    carbon: Carbon

    @model_validator(mode="after")
    def _rows_are_methods_or_variants(self) -> Params:
        if twice := set(self.methods) & set(self.submitted):
            raise ValueError(f"{sorted(twice)} stand under methods and under submitted: keep one row each")
        if taken := RESERVED & {*self.methods, *self.submitted}:
            raise ValueError(f"{sorted(taken)} cannot be methods: folders of the pipeline have these names")
        for row in self.methods:
            module, _ = self.method(row)
            if not isinstance(module, str):
                raise ValueError(f"methods.{row}.method is {module!r}; it takes the name of a method")
            if not isinstance(size := self.batch_size_of(row), int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"methods.{row}.batch_size is {size!r}; it takes a whole number of texts from 1")
            if (own := self.methods.get(module, {}).get("method", module)) != module:
                raise ValueError(f"methods.{row}.method is {module!r}, itself a variant: write {own!r}, and the knobs")
        if self.methods.get("teacher", {}).get("method", "teacher") != "teacher" or "teacher" not in self.methods:
            raise ValueError("methods must hold 'teacher', the method of that name: it is the 100 % row")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Params:
        unknown = set(self.deployments) - {"all", *self.methods, *(self.method(row)[0] for row in self.methods)}
        packages = [self.teacher.package, *(task.source.get("package") for task in self.tasks.values())]
        used = [str(package) for package in packages if package]
        if missing := [package for package in used if package not in self.packages]:
            raise ValueError(f"{missing} are not pinned under packages; pinned: {sorted(self.packages)}")
        if unknown:
            raise ValueError(f"deployments names {sorted(unknown)}; known: 'all' and the methods {list(self.methods)}")
        return self

    def method(self, row: str) -> tuple[str, dict[str, Any]]:
        """The module behind a row (`method:`, or the row's own name) and the knobs given; UserError names the rows."""
        knobs = dict(known(self.methods, row, "method", "params.yaml"))
        knobs.pop("batch_size", None)
        return knobs.pop("method", row), knobs

    def batch_size_of(self, row: str) -> int:
        """Texts a step: the row's own `batch_size`, or that of all. The passes stay the same."""
        return self.methods[row].get("batch_size", self.batch_size)

    def deployments_of(self, row: str) -> list[str]:
        """The artifacts that a row is turned into: those of all, then its own, which for a variant are its method's."""
        if row in self.submitted:
            return self.submitted[row]
        own = self.deployments.get(row, self.deployments.get(self.method(row)[0], []))
        return [*self.deployments.get("all", []), *own]

    def task(self, name: str) -> TaskParams:
        """A task by name; UserError names the known ones."""
        return known(self.tasks, name, "task", "params.yaml")


@cache
def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml; UserError lists every problem at once."""
    return checked(read(path), str(path))


def read(path: Path) -> dict[str, Any]:
    """The table in a YAML file; UserError where there is none."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run from the project's root.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8; no such day
        raise UserError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no settings: write `key: value` lines, `profile: ...` first.")
    return raw


def checked(raw: Any, source: str) -> Params:
    """What was read from `source`, as Params; UserError lists every problem at once."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source} has problems:\n" + "\n".join(map(_problem, error.errors()))) from None


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"  {place}: unknown key{nearest(str(error['loc'][-1]), _keys_beside(error['loc'][:-1]))}"
    return f"  {place}: {error['msg']} (given: {str(error['input'])[:80]!r})"


def _keys_beside(place: tuple[Any, ...]) -> list[str]:
    """The keys that the model at `place` knows."""
    model: Any = Params
    for part in place:
        # the field's own model, or that of a table such as tasks: {name: TaskParams}
        model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[-1]
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def nearest(given: str, names: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(given, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(names))}"


def known(table: dict[str, Any], name: str, what: str, where: str) -> Any:
    """table[name], or a UserError that names the nearest key and all known ones."""
    if name not in table:
        raise UserError(f"No {what} {name!r} in {where}{nearest(name, list(table))}")
    return table[name]


class Paths:
    """Where every stage reads and writes. Relative to the project's root, where every stage runs."""

    raw = Path("data/raw")
    downloads = Path("data/downloads")  # archives as pip brought them; kept between runs
    own = Path("data/own.json")  # the hashes of the task files that are a user's own

    def split(self, task: str, split: str) -> Path:
        """data/<task>/{train,dev,exam}.parquet with the columns text and label."""
        return Path("data") / task / f"{split}.parquet"

    def finetuned(self, task: str, seed: int) -> Path:
        """The fine-tuned teacher: model/ (weights, config, tokenizer), footprint.json, history.tsv."""
        return Path("runs") / task / "finetune" / str(seed)

    def card(self, method: str) -> Path:
        """The checked contract of a method: bound knobs, hash of its sources."""
        return Path("runs/cards") / f"{method}.json"

    def cell(self, task: str, method: str, seed: int) -> Path:
        """One compression and its exam: compressed/, quality.json, predictions.json."""
        return Path("runs") / task / method / str(seed)

    def compressed(self, task: str, method: str, seed: int) -> Path:
        """What compress leaves: artifacts/, student.json, footprint.json, history.tsv."""
        return self.cell(task, method, seed) / "compressed"

    def artifacts(self, task: str, method: str, seed: int) -> Path:
        """One folder a deployment (openautoglm.artifact)."""
        return self.compressed(task, method, seed) / "artifacts"

    def checkpoints(self, task: str, method: str, seed: int) -> Path:
        """Unfinished training; removed when the stage is complete. No stage depends on it."""
        return Path("runs/.checkpoints") / f"{task}-{method}-{seed}"

    def cost(self, task: str, method: str) -> Path:
        """Measured cost of every deployment of a method on a task."""
        return Path("runs") / task / "costs" / f"{method}.json"

    def results(self, profile: str) -> Path:
        """The published records of a profile."""
        return Path("leaderboard/results") / profile

    def record(self, profile: str, method: str, task: str) -> Path:
        """One record (leaderboard.schema.Record)."""
        return self.results(profile) / method / f"{task}.json"

    def tuning(self, row: str, task: str) -> Path:
        """The learning rates and passes tried for a row on a task (leaderboard.schema.Tuning)."""
        return Path("leaderboard/results/tuning") / row / f"{task}.json"

    def task_card(self, profile: str, task: str) -> Path:
        """One task card (leaderboard.schema.TaskCard)."""
        return self.results(profile) / "tasks" / f"{task}.json"

    site = Path("site")


paths = Paths()
