"""Rules on the records of a submission: every figure follows from what is stored, and stands beside the published ones.

The teacher's record of the same task and profile says what was asked: seeds, launches, threads, reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import atanh, sqrt
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel

from leaderboard import derive, rederive, seal
from leaderboard.checks.subject import Entry, Problem, Submission
from leaderboard.schema import Certificate, Deployment, Interval, Quality, Record, TaskCard

BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "too_short")
SIGMAS = 4.0  # of 10,000 honest cells, one lies as far out
STEADY = 0.25  # share by which the reference may differ from the teacher's own record: ten times what honest runs do
BUSY = 1.15  # CPU-seconds a second and thread; honest runs show 1.00
UNIT = 5.0  # times: two ways to the same figure differ by less, another unit by a thousand


def schema(given: Submission) -> Iterator[Problem]:
    """Every record is valid JSON of this version's schema, with nothing missing and nothing more."""
    for entry in given.entries:
        for error in entry.errors:
            if error["type"] not in ("finite_number", "size", *BOUNDS):
                place = ".".join(map(str, error["loc"]))[:120]
                yield Problem(given.short(entry.path), f"{place}: {error['msg']}"[:300], _again(given))


def finite(given: Submission) -> Iterator[Problem]:
    """Every number is finite."""
    for entry in given.entries:
        for error in entry.errors:
            if error["type"] == "finite_number":
                place = ".".join(map(str, error["loc"]))[:120]
                yield Problem(given.short(entry.path), f"{place} is {error['input']}", _again(given))


def ranges(given: Submission) -> Iterator[Problem]:
    """Every number lies where such a number can lie, and every interval holds its value."""
    for entry in given.entries:
        for error in entry.errors:
            if error["type"] in BOUNDS:
                yield Problem(
                    given.short(entry.path), f"{'.'.join(map(str, error['loc']))[:120]}: {error['msg']}", _again(given)
                )
    for entry, record in given.records:
        for place, interval in _intervals(record):
            if not interval.low <= interval.value <= interval.high and ".scores" not in place:
                yield Problem(
                    given.short(entry.path), f"{place}: {interval.value} lies outside its interval", _again(given)
                )
        for form, quality in _qualities(record):
            for metric, score in quality.scores.items():
                if not -1 <= score.low <= score.high <= 1:
                    yield Problem(given.short(entry.path), f"{form}: {metric} of {score.value}", "scores are fractions")


def units(given: Submission) -> Iterator[Problem]:
    """Figures that say one thing in two ways agree: watts and seconds with kWh, kWh with grams, ms with CPU-seconds."""
    for entry, record in given.records:
        where = given.short(entry.path)
        for place, certificate in _certificates(record):
            formula = derive.modelled_kwh(certificate, "likely")
            if certificate.method == "modelled" and not _near(formula, certificate.formula_kwh, 0.01):
                yield Problem(
                    where,
                    f"{place}: {certificate.formula_kwh:g} kWh, but its watts and seconds give {formula:g}",
                    _again(given),
                )
            if not _near(certificate.codecarbon_kwh, certificate.formula_kwh, 0.05) and certificate.energy_valid:
                yield Problem(where, f"{place}: energy_valid, but its two figures differ by over 5 %", _again(given))
        for run in record.runs:
            grams = run.footprint.energy_kwh.likely * run.footprint.certificate.grid_g_per_kwh
            if not _near(run.footprint.emissions_g, grams, 0.02):
                yield Problem(
                    where,
                    f"seed {run.seed}: {run.footprint.emissions_g:g} g, but kWh and grid give {grams:g}",
                    _again(given),
                )
        for form, deployment in record.deployments.items():
            cost = deployment.cost
            calls = [ms for launch in cost.launches for ms in launch.candidate_block_ms]
            if calls and not 1 / UNIT < median(calls) / max(cost.cpu_s_per_1000, 1e-9) < UNIT:
                seen = f"{form}: {median(calls):g} ms a text, but {cost.cpu_s_per_1000:g} CPU-seconds a thousand"
                yield Problem(where, seen, _again(given))
            if not cost.solo.import_mb <= cost.solo.load_mb <= cost.solo.peak_mb + 1:
                yield Problem(where, f"{form}: memory shrinks while the model loads", _again(given))


def grid(given: Submission) -> Iterator[Problem]:
    """Every task of a profile is there, in every deployment, with the seeds of the teacher's record (of a brought
    artifact, the first) and its launches at least.
    """
    for profile in {entry.profile for entry in given.entries}:
        asked = {path.stem for path in (given.results / profile / "tasks").glob("*.json")}
        there = {entry.path.stem for entry in given.entries if entry.profile == profile}
        for task in sorted(asked ^ there):
            seen = "is missing" if task in asked else "is no task of this profile"
            yield Problem(
                f"{profile}/{given.name}/{task}.json", seen, f"bench run {given.name}; remove what is no task"
            )
    for entry, record in given.records:
        where = given.short(entry.path)
        if missing := sorted(set(given.forms) ^ set(record.deployments)):
            yield Problem(where, f"deployments missing or unasked: {', '.join(missing)}", _again(given))
        if teacher := given.teacher(record):
            seeds, fewest = _seeds(given, teacher), given.fewest_launches[record.profile]
            for form, deployment in record.deployments.items():
                if {q.seed for q in deployment.quality} != seeds or len(deployment.quality) != len(seeds):
                    yield Problem(where, f"{form}: not the seeds {sorted(seeds)}", _again(given))
                if (taken := len(deployment.cost.launches)) < fewest:
                    yield Problem(where, f"{form}: {taken} launches of {fewest}", _again(given))
        else:
            yield Problem(where, "the teacher has no record to compare with", "make it first: bench run")


def exam(given: Submission) -> Iterator[Problem]:
    """The exam split is the published one, by hash, and every one of its texts is answered with a possible class."""
    for entry, record in given.records:
        where, published = given.short(entry.path), given.task_card(record)
        if published is None:
            continue  # the rule `grid` tells
        if record.exam_sha256 != published.sha256["exam"]:
            yield Problem(where, "was made on another exam split", "prepare the task anew, then bench run")
        for form, quality in _qualities(record):
            if len(quality.predictions) != len(published.exam_labels):
                yield Problem(
                    where,
                    f"{form}: {len(quality.predictions)} answers to {len(published.exam_labels)} texts",
                    _again(given),
                )
            elif published.labels and set(quality.predictions) - set(range(len(published.labels))):
                yield Problem(where, f"{form}: answers a class that there is not", _again(given))


def scores(given: Submission) -> Iterator[Problem]:
    """Scoring the stored predictions again gives the stored scores, with their intervals."""
    for entry, record, published in _answered(given):
        for form, deployment in record.deployments.items():
            yield from _doubted(given, entry, rederive.scores(form, deployment, published))


def derived(given: Submission) -> Iterator[Problem]:
    """Every summary follows again from the raw samples beside it."""
    for entry, record in given.records:
        for form, deployment in record.deployments.items():
            yield from _doubted(given, entry, rederive.cost(form, deployment))


def sealed(given: Submission) -> Iterator[Problem]:
    """Every record is, byte for byte, as it was written."""
    for entry, _ in given.records:
        if not seal.fits(entry.path.read_bytes()):
            yield Problem(
                given.short(entry.path), "its seal does not fit its bytes", "never edit a record; " + _again(given)
            )


def artifact(given: Submission) -> Iterator[Problem]:
    """What was timed is what was scored: one hash in both."""
    for entry, record in given.records:
        for form, deployment in record.deployments.items():
            yield from _doubted(given, entry, rederive.artifact(form, deployment, record))


def threads(given: Submission) -> Iterator[Problem]:
    """Timed on the teacher's number of threads, and no more of them were busy."""
    for entry, record in given.records:
        teacher = given.teacher(record)
        asked = _any(teacher).cost.launches[0].threads if teacher and _any(teacher).cost.launches else 1
        for form, deployment in record.deployments.items():
            said = {launch.threads for launch in deployment.cost.launches}
            solo = deployment.cost.solo
            if said - {asked}:
                yield Problem(
                    given.short(entry.path), f"{form}: {sorted(said)} threads instead of {asked}", _again(given)
                )
            if solo.cpu_s > BUSY * asked * solo.wall_s:
                seen = f"{form}: {solo.cpu_s / max(solo.wall_s, 1e-9):.1f} cores were busy, {asked} allowed"
                yield Problem(given.short(entry.path), seen, "start no threads of your own")


def reference(given: Submission) -> Iterator[Problem]:
    """The reference ran as fast as its control; on the teacher's machine, it and INT8 ran as fast as in its record."""
    for entry, record in given.records:
        teacher = given.teacher(record)
        same = teacher is not None and teacher.machine.id == record.machine.id
        usual = _any(teacher) if teacher and same else None
        for form, deployment in record.deployments.items():
            found, int8 = _block_ms(deployment, "reference"), _block_ms(deployment, "int8")
            compared = [("the reference", found, "its own control", _block_ms(deployment, "control"))]
            if usual:
                compared.append(("the reference", found, "the teacher's record", _block_ms(usual, "reference")))
                compared.append(("the teacher in INT8", int8, "the teacher's record", _block_ms(usual, "int8")))
            for who, ms, where, expected in compared:
                if ms and expected and not 1 / (1 + STEADY) < ms / expected < 1 + STEADY:
                    seen = f"{form}: {who} took {ms:.2f} ms a text, {expected:.2f} in {where}"
                    yield Problem(given.short(entry.path), seen, "time both on a quiet machine; " + _again(given))


def too_good(given: Submission) -> Iterator[Problem]:
    """No better on the exam than on dev by more than chance: both are drawn alike, and only dev was ever seen."""
    for entry, record, published in _answered(given):
        metric, labels = published.metrics[0], published.exam_labels
        known = {run.seed: [p.dev_score for p in run.history if p.dev_score is not None] for run in record.runs}
        for form, quality in _qualities(record):
            where = given.short(entry.path)
            if len(labels) >= 30 and list(map(float, quality.predictions)) == list(map(float, labels)):
                yield Problem(where, f"{form}: every answer is the label itself", "show how: nothing answers so")
            elif (dev := known.get(quality.seed)) and metric in quality.scores:
                score, best = quality.scores[metric].value, max(dev)
                sigmas = surprise(score, len(labels), best, published.counts["dev"], metric)
                if sigmas > SIGMAS:
                    seen = f"{form}: {metric} {score:.3f} on the exam, {best:.3f} on dev: {sigmas:.0f} errors apart"
                    yield Problem(where, seen, "train on nothing but train and dev")


def copied(given: Submission) -> Iterator[Problem]:
    """Raw samples and artifacts are its own: none is equal to another method's."""
    if not given.records:
        return
    theirs: dict[Any, str] = {}
    for other in given.others():
        for form, deployment in other.deployments.items():
            place = f"{other.method.name}'s {form} on {other.task}"
            theirs |= dict.fromkeys((mark for mark in _marks(deployment)), place)
    for entry, record in given.records:
        for form, deployment in record.deployments.items():
            if found := next((theirs[mark] for mark in _marks(deployment) if mark in theirs), None):
                yield Problem(
                    given.short(entry.path), f"{form} is equal to {found}", "submit models and runs of your own"
                )


def tier(given: Submission) -> Iterator[Problem]:
    """A record says "submitted" exactly where its card says that it is a result."""
    for entry, record in given.records:
        if given.card and record.method.submitted != (given.card.kind == "result"):
            seen = f"submitted is {str(record.method.submitted).lower()}, and the card's kind is {given.card.kind}"
            yield Problem(given.short(entry.path), seen, "set method.submitted to true in the records of a result")


def _seeds(given: Submission, teacher: Record) -> set[int]:
    """The seeds that are asked for: a brought artifact was made once, elsewhere, and stands beside the first."""
    brought = given.card is not None and given.card.kind == "artifact"
    return {run.seed for run in teacher.runs[: 1 if brought else None]}


def _doubted(given: Submission, entry: Entry, doubts: Iterator[rederive.Doubt]) -> Iterator[Problem]:
    for doubt in doubts:
        seen = f"{doubt.item}: {doubt.said}, not {doubt.follows}; {doubt.why}"
        yield Problem(given.short(entry.path), seen, "never edit a record; " + _again(given))


def _again(given: Submission) -> str:
    return f"make the record again: bench run {given.name}"


def _any(record: Record) -> Deployment:
    return next(iter(record.deployments.values()))


def _answered(given: Submission) -> Iterator[tuple[Entry, Record, TaskCard]]:
    """Records whose predictions can be scored."""
    for entry, record in given.records:
        published = given.task_card(record)
        whole = published and all(len(q.predictions) == len(published.exam_labels) for _, q in _qualities(record))
        if published and whole:
            yield entry, record, published


def _qualities(record: Record) -> Iterator[tuple[str, Quality]]:
    for form, deployment in record.deployments.items():
        for quality in deployment.quality:
            yield form, quality


def _certificates(record: Record) -> Iterator[tuple[str, Certificate]]:
    yield from ((f"seed {run.seed}", run.footprint.certificate) for run in record.runs)
    yield from ((form, deployment.cost.solo.certificate) for form, deployment in record.deployments.items())


def _intervals(value: Any, place: str = "") -> Iterator[tuple[str, Interval]]:
    if isinstance(value, Interval):
        yield place, value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _intervals(getattr(value, field), f"{place}.{field}".lstrip("."))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _intervals(inner, f"{place}.{key}")
    elif isinstance(value, list) and value and not isinstance(value[0], (float, int)):
        for inner in value:
            yield from _intervals(inner, place)


def _block_ms(deployment: Deployment, who: Literal["reference", "control", "int8"]) -> float | None:
    blocks = [ms for launch in deployment.cost.launches for ms in getattr(launch, f"{who}_block_ms") or ()]
    return median(blocks) if blocks else None


def _marks(deployment: Deployment) -> list[Any]:
    """What no two measured methods share: weights, and timings to a tenth of a microsecond."""
    timings = [tuple(launch.candidate_block_ms) for launch in deployment.cost.launches]
    return [deployment.artifact_sha256, *(marks for marks in timings if len(marks) > 1)]


def surprise(exam: float, exam_n: int, dev: float, dev_n: int, metric: str) -> float:
    """By how many standard errors `exam` lies above `dev`: two proportions, or two correlations (Fisher's z)."""
    if metric in ("pearson", "spearman"):
        a, b = (atanh(max(-0.999, min(0.999, r))) for r in (exam, dev))
        return (a - b) / (1.06 * sqrt(1 / max(1, exam_n - 3) + 1 / max(1, dev_n - 3)))
    both = (exam * exam_n + dev * dev_n) / (exam_n + dev_n)
    error = sqrt(max(both * (1 - both), 1e-4) * (1 / exam_n + 1 / dev_n))
    return (exam - dev) / error


def _near(a: float, b: float, share: float) -> bool:
    return abs(a - b) <= share * max(abs(a), abs(b)) + 1e-12


RULES = (
    *(schema, finite, ranges, units, grid, exam, scores, derived),
    *(sealed, artifact, threads, reference, too_good, copied, tier),
)
