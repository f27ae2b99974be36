"""What a record holds: every field with its unit and convention. The page's tooltips are these descriptions.

A record is one method on one task in one profile: every seed's predictions, every deployment's raw timings, and the
summaries derived from them. Fractions everywhere (0.87), percent only on the page; the unit stands in the key.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA_VERSION: Final = 1
PROFILES = ("smoke", "default", "full")  # from the quickest to the fullest
Profile = Literal["smoke", "default", "full", "ablations"]  # ablations stand on the pages of their methods only

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
DeploymentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]  # the page has it in a shell command
Time = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|\+00:00)$")]
Text = Annotated[str, StringConstraints(max_length=4000)]


class Strict(BaseModel):
    """Refuses unknown keys, NaN and infinity; cannot be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Strict):
    """A figure with its two-sided 95 % interval."""

    value: float
    low: float
    high: float


class Range(Strict):
    """A modelled figure under the low, likely and high assumptions of params.yaml (no probability is attached)."""

    low: float = Field(ge=0)
    likely: float = Field(ge=0)
    high: float = Field(ge=0)


class Machine(Strict):
    """Where it ran. Timings of machines with another `id` are never compared."""

    id: str = Field(description="first 12 hex digits of the hash of the fields that speed depends on")
    cpu: str
    cpu_flags: list[str] = Field(description="the vector extensions that inference uses, e.g. avx512_vnni")
    cores: int = Field(ge=1)
    memory_gb: float = Field(gt=0)
    gpu: str | None
    kernel: str
    virtualization: str | None
    python: str
    versions: dict[str, str] = Field(description="versions of the packages that results depend on")
    threads: dict[str, int] = Field({}, description="threads of training and of timing; throughput takes all cores")


class Certificate(Strict):
    """How an energy figure came about: an energy figure without it is not shown."""

    method: Literal["rapl", "nvml", "rapl+nvml", "modelled"] = Field(
        description="measured by a power meter of the hardware (rapl, nvml), or modelled: declared watts x CPU-seconds"
    )
    cpu_watts_per_core: Range
    memory_watts_per_gb: Range
    watts_source: Text
    grid: str = Field(description="ISO 3166 alpha-3 code of the electricity grid")
    grid_year: int
    grid_g_per_kwh: float = Field(ge=0, description="carbon intensity of the grid, grams CO2e per kWh")
    window_s: float = Field(ge=0, description="wall-clock seconds under the tracker")
    cpu_s: float = Field(ge=0, description="CPU-seconds (user + system) spent in the window")
    memory_gb: float = Field(ge=0, description="resident memory charged for the window")
    codecarbon_version: str
    codecarbon_kwh: float = Field(ge=0, description="what CodeCarbon reported for the window")
    formula_kwh: float = Field(ge=0, description="watts x seconds, computed by us for the same window")
    energy_valid: bool = Field(description="false where the two differ by more than 5 %")


class Footprint(Strict):
    """What making one model cost: the method's own work for one seed; the teacher's is in the teacher's record."""

    wall_s: float = Field(ge=0, description="wall-clock seconds")
    cpu_s: float = Field(ge=0, description="CPU-seconds (user + system)")
    energy_kwh: Range
    emissions_g: float = Field(ge=0, description="grams CO2e at the certificate's grid, likely watts")
    peak_memory_mb: float = Field(ge=0)
    gpu_peak_memory_mb: float | None = Field(
        None, ge=0, description="most that torch's allocator held on the GPUs; none where no GPU was used"
    )
    certificate: Certificate


class HistoryPoint(Strict):
    """One point of a learning curve."""

    stage: str = Field(max_length=60, description="the method's own name for this part of its training")
    step: int = Field(ge=0)
    loss: float | None = Field(description="mean training loss since the last point")
    dev_score: float | None = Field(description="the task's first metric on dev")


class Run(Strict):
    """One compression: one seed."""

    seed: int
    steps: int = Field(ge=0, description="optimiser steps taken")
    budget_steps: int = Field(ge=0, description="optimiser steps the budget allowed")
    footprint: Footprint
    history: list[HistoryPoint]
    teacher_sha256: Sha256 | None = Field(default=None, description="weights of the fine-tuned teacher that it saw")


class Quality(Strict):
    """One seed's predictions on the exam split, and the scores that follow from them."""

    seed: int
    artifact_sha256: Sha256
    predictions: list[float] = Field(description="class index, or the predicted value, in the exam split's order")
    scores: dict[str, Interval] = Field(description="metric -> value with bootstrap interval")


class Launch(Strict):
    """Raw samples of one fresh worker process that timed reference and candidate in turns, text by text."""

    threads: int = Field(ge=1)
    first_call_ms: float = Field(ge=0, description="the candidate's first inference after loading")
    load_ms: float = Field(ge=0, description="loading the candidate's artifact")
    reference_block_ms: list[float] = Field(description="mean milliseconds a call of the reference, text by text")
    candidate_block_ms: list[float] = Field(description="the same for the candidate, paired by position")
    control_block_ms: list[float] = Field(
        description="A/A control: the reference timed again in the candidate's place, paired with control_reference"
    )
    control_reference_ms: list[float]
    int8_block_ms: list[float] | None = Field(
        None, description="the teacher in INT8 (onnx-int8), paired with candidate_block_ms; none: not timed beside it"
    )
    call_ms: list[float] = Field(description="single calls of the candidate, text to label, one a text")
    tokenize_ms: float = Field(ge=0, description="mean milliseconds of tokenisation a text")
    dropped_pairs: int = Field(
        ge=0, description="rounds repeated because a neighbour disturbed them, those of a launch taken again included"
    )
    probe_ms: float | None = Field(
        None, gt=0, description="the quickest run of a fixed piece of arithmetic: was the core itself as fast as ever?"
    )
    pressure: float | None = Field(
        None, ge=0, description="share of the launch's time in which some process waited for a core (pressure stall)"
    )
    switches: int | None = Field(
        None, ge=0, description="times that the scheduler took the core from the worker in this launch"
    )


class Solo(Strict):
    """Raw marks of one fresh worker process that held the candidate alone: memory, CPU time, energy, throughput."""

    import_mb: float = Field(ge=0, description="resident memory after imports, before the artifact is loaded")
    load_mb: float = Field(ge=0, description="resident memory after loading")
    peak_mb: float = Field(ge=0, description="high-water mark of resident memory during inference")
    anonymous_mb: float | None = Field(description="private pages at the end, where the kernel tells")
    texts: int = Field(ge=1, description="inferences in the energy window")
    cpu_s: float = Field(ge=0)
    wall_s: float = Field(ge=0)
    throughput_texts_per_s: float = Field(ge=0, description="offline: length-sorted batches, all cores")
    all_cores_call_ms: list[float] = Field(
        [], description="single calls of the candidate on all cores, text to label, batch 1, one a text"
    )
    certificate: Certificate


class Cost(Strict):
    """What using a deployment costs: raw samples, and the summary derived from them (leaderboard.derive)."""

    launches: list[Launch]
    solo: Solo
    latency_p50_ms: Interval | None = Field(
        description="median milliseconds from text to label, batch 1, one thread; none where n is too small"
    )
    latency_p90_ms: Interval | None = Field(description="90th percentile of the same; needs 36 samples")
    latency_all_cores_p50_ms: Interval | None = Field(
        None, description="median milliseconds from text to label, batch 1, on all cores"
    )
    speedup: Interval = Field(
        description="times faster than the reference (teacher, onnx-fp32), trimmed mean of paired log ratios"
    )
    speedup_int8: Interval | None = Field(
        None, description="times faster than the teacher in off-the-shelf INT8 (onnx-int8), timed in the same rounds"
    )
    noise_floor: float = Field(ge=0, description="gaps below this fraction are ties (A/A, repeatability, at least 3 %)")
    noisy: bool = Field(description="repeats are more than 40 % of all rounds taken")
    first_call_ms: float
    tokenize_share: float = Field(ge=0, description="share of tokenisation in the median latency")
    peak_memory_mb: float = Field(description="peak of inference minus the import baseline")
    peak_memory_absolute_mb: float
    throughput_texts_per_s: float
    cpu_s_per_1000: float = Field(ge=0, description="CPU-seconds per 1,000 texts, batch 1")
    energy_kwh_per_1000: Range = Field(description="kWh per 1,000 texts, batch 1")
    emissions_g_per_1000: float = Field(ge=0, description="grams CO2e per 1,000 texts at the certificate's grid")


class Deployment(Strict):
    """One artifact form of the student, e.g. onnx-int8."""

    runtime: str
    precision: str = Field(max_length=200, description="number formats of weights and activations, in words")
    parameters: int = Field(ge=1, description="stored parameters, the embedding included, shared ones once")
    bytes_on_disk: int = Field(ge=1, description="all files of the artifact: weights, tokenizer, manifest")
    artifact_sha256: Sha256 = Field(description="of the artifact that was timed (first seed)")
    quality: list[Quality]
    cost: Cost


class Method(Strict):
    """Who is measured. All of it is text: the page escapes it."""

    name: Name
    caption: Text
    paper: Text
    kept: Text = Field(description="what of the published recipe is kept")
    left_out: Text = Field(description="what is left out or changed, and why")
    knobs: dict[str, bool | int | float | str | list | dict | None] = Field(description="every knob, bound")
    sources_sha256: Sha256 = Field(description="hash of the source files that the method really imports")
    variant_of: Name | None = Field(
        default=None, description="the method whose code this row runs with other knobs; none: a method of its own"
    )
    submitted: bool = Field(default=False, description="true: brought by its authors, not reproduced by us")
    shape: dict[str, int | float | str | list | None] = Field(
        default_factory=dict, description="the student's shape: layers, hidden_size, heads, ffn, embedding_size, ..."
    )
    report: dict = Field(default_factory=dict, description="what the method says of itself, e.g. sensitivity per layer")


class Code(Strict):
    """Which version of the code made it; none where there was no git or no lock."""

    commit: Commit | None
    dirty: bool | None
    lock_sha256: Sha256 | None = Field(description="hash of requirements.lock")
    referee_sha256: Sha256 | None = Field(
        default=None, description="hash of the sources that prepare, fine-tune, compress, score and measure"
    )


class Record(Strict):
    """One method on one task in one profile."""

    schema_version: Literal[1]
    suite_version: int
    profile: Profile
    task: Name
    exam_sha256: Sha256 = Field(description="hash of the exam split's texts and labels")
    created: Time = Field(description="UTC, ISO 8601")
    method: Method
    code: Code
    machine: Machine
    runs: list[Run]
    deployments: dict[DeploymentName, Deployment]
    train_sha256: Sha256 | None = Field(default=None, description="hash of the train split's texts and labels")
    dev_sha256: Sha256 | None = Field(default=None, description="hash of the dev split's texts and labels")
    config_sha256: dict[str, Sha256] = Field(
        default_factory=dict, description="section of params.yaml that it depends on -> hash of its values"
    )
    seal: Sha256 | None = Field(default=None, description="hash of the file with zeros here (leaderboard.seal); last")


class Trial(Strict):
    """One training of a search for learning rates or passes."""

    knobs: dict[str, float] = Field(description="the knobs that the trial sets; all others are the row's")
    passes: float = Field(gt=0, description="passes over the train split that it may take")
    dev_score: float | None = Field(description="the task's first metric on dev; none where the training diverged")
    steps: int = Field(ge=0)
    wall_s: float = Field(ge=0, description="wall-clock seconds")


class Tuning(Strict):
    """The trials of one row on one task, on dev: one command gives every method as many."""

    schema_version: Literal[1]
    method: Name
    task: Name
    metric: str
    teacher_dev_score: float = Field(description="the teacher's own, by the same metric")
    made_from: dict[str, str | int | float] = Field(description="what a trial's score depends on besides its knobs")
    created: str = Field(description="UTC, ISO 8601")
    machine: str = Field(description="where it ran: the processor and its cores")
    trials: list[Trial]


class SearchLimits(Strict):
    """The budgets of a search."""

    ms: float = Field(gt=0, description="milliseconds from a text of `length` word pieces to its logits")
    bytes: float = Field(gt=0, description="of the whole artifact")
    length: int = Field(ge=1)


class SearchAsked(Strict):
    """What a search was asked for."""

    limits: SearchLimits
    seed: int
    epochs: float = Field(gt=0, description="passes of a full trial")
    base: dict = Field(description="the config that all trials share")


class SearchTrial(Strict):
    """One trial of a search. What it did not measure is none."""

    stage: Literal["cheap", "short", "full"] = Field(description="no training, one pass, all passes")
    number: int = Field(ge=0, description="of the cheap trial that drew the structure")
    params: dict
    structure: list[list[int]] | None = Field(description="heads and neurons of each layer")
    ms: float | None = Field(gt=0, description="predicted")
    bytes: float | None = Field(gt=0, description="predicted")
    loss: float | None
    dev_score: float | None
    seconds: float = Field(ge=0)


class Search(Strict):
    """What `openautoglm search` writes as search.json: the config of a variant, and how it was found."""

    machine: str = Field(description="where it ran: its latencies are of this machine")
    asked: SearchAsked
    best: SearchTrial
    trials: list[SearchTrial]


class TaskCard(Strict):
    """What a task is. Published beside the records so that scores can be derived again from predictions."""

    schema_version: Literal[1]
    name: Name
    title: Text
    kind: Literal["classification", "regression"]
    labels: list[str] = Field(description="class names; empty for regression")
    metrics: list[str] = Field(min_length=1, description="the first one ranks")
    source: Text
    licence: Text
    counts: dict[Literal["train", "dev", "exam"], int]
    dropped: dict[str, int] = Field(description="reason -> rows left out while cleaning")
    label_distribution: dict[str, float] = Field(description="share a class, or quantiles of the value")
    words: dict[str, float] = Field(description="quantiles of the number of words a text: p50, p90, max")
    sha256: dict[Literal["train", "dev", "exam"], Sha256]
    exam_labels: list[float] = Field(description="class index or value, in the exam split's order")
    examples: list[dict[str, str]] = Field(description="a few train texts with their label")
