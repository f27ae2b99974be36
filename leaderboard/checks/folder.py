"""Rules on the files of a submission."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard import packed
from leaderboard.checks.subject import Problem, Submission
from leaderboard.schema import Record
from leaderboard.submission import FILE, CardError, markup, read_card, unseen

CODE, PACKABLE = (".py", ".yaml", ".md", ".txt"), ("tokenizer.json", "model.onnx", "model.safetensors")
ARTIFACT = ("manifest.json", *PACKABLE, *(name + packed.SUFFIX for name in PACKABLE))
FILE_MB, FOLDER_MB, ARTIFACT_MB, MOST_FILES = 0.2, 1.0, 500.0, 100
MOST_BYTES = int(ARTIFACT_MB * 1e6)  # of a file, unpacked
MAGIC = {
    "a pickle": re.compile(rb"\x80[\x02-\x05]|[(\]}]?[ci]?__builtin__\n|cos\n|cposix\n|cnt\n|csubprocess\n"),
    "a zip archive (as torch.save writes)": re.compile(rb"PK\x03\x04"),
    "an executable": re.compile(rb"\x7fELF|MZ|\xcf\xfa\xed\xfe|\xfe\xed\xfa[\xce\xcf]|\xca\xfe\xba\xbe|#!"),
    "compressed": re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"),
}
SHINGLE = 6  # words in a row that no two texts share by chance
COPIES = 3  # texts of a task that may stand in a folder: an example or two in a comment


def card(given: Submission) -> Iterator[Problem]:
    """card.yaml is there, whole, and says what is asked."""
    try:
        read_card(given.folder / FILE)
    except CardError as error:
        for problem in error.problems:
            yield Problem(FILE, problem, "correct card.yaml; submissions/README.md explains each entry")


def name(given: Submission) -> Iterator[Problem]:
    """The name is its own: the folder's, the card's and the records' agree, and nobody else has it."""
    if given.name in given.taken:
        yield Problem(given.name, "a method of that name is published already", "choose another name")
    if given.card and given.card.name != given.name:
        yield Problem(FILE, f"name is {given.card.name!r}", f"write {given.name!r}, the folder's name")
    for entry, record in given.records:
        said = (record.profile, record.method.name, record.task)
        if said != (entry.profile, given.name, entry.path.stem):
            yield Problem(given.short(entry.path), f"says it is {'/'.join(said)}", "do not move or rename records")


def paths(given: Submission) -> Iterator[Problem]:
    """Plain files under plain names: no links, no `..`, nothing outside the folder."""
    if given.folder.is_symlink():
        yield Problem(given.name, "the folder is a symbolic link", "submit the folder itself")
    for path in given.files:
        if path not in given.plain:
            yield Problem(given.short(path), "is a symbolic link or a special file", "put the file itself there")
        elif not all(re.fullmatch(r"[A-Za-z0-9_][\w.-]*", part, re.ASCII) for part in _parts(given, path)):
            yield Problem(given.short(path), "has a name of odd characters", "use letters, digits, `_`, `-` and `.`")
    for path, manifest in _manifests(given):
        for listed in _listed(manifest):
            if Path(str(listed)).name != listed:
                yield Problem(given.short(path), f"lists {str(listed)[:80]!r}", "list files of its own folder only")


def files(given: Submission) -> Iterator[Problem]:
    """Only source, words and, in artifacts/<task>/, an ONNX model: no pickle, archive or executable."""
    for path in given.plain:
        parts = _parts(given, path)
        in_artifact = len(parts) == 3 and parts[0] == "artifacts" and parts[2] in ARTIFACT
        if not in_artifact and path.suffix not in CODE:
            allowed = f"{', '.join(CODE)}; artifacts/<task>/ holds {', '.join(ARTIFACT)}"
            yield Problem(
                given.short(path), "is no kind of file that a submission has", f"remove it. Allowed: {allowed}"
            )
        try:
            head = _head(path, unpack=in_artifact and path.suffix == packed.SUFFIX)
        except ValueError as error:
            yield Problem(given.short(path), str(error), "export the model again")
            continue
        for kind, magic in MAGIC.items():
            if magic.match(head):
                yield Problem(given.short(path), f"begins like {kind}", "remove it; weights are ONNX or safetensors")
        if path.lstat().st_mode & 0o111:
            yield Problem(given.short(path), "is marked executable", f"chmod -x {path.name}")


def _head(path: Path, *, unpack: bool) -> bytes:
    if unpack:
        return packed.unpack(path, MOST_BYTES)[:64]
    with path.open("rb") as file:
        return file.read(64)


def size(given: Submission) -> Iterator[Problem]:
    """Every file counts: small sources, artifacts whose manifests list all, their true size in the records."""
    if len(given.files) > MOST_FILES:
        yield Problem(given.name, f"{len(given.files)} files", f"at most {MOST_FILES}")
    sources = [p for p in given.plain if _parts(given, p)[0] != "artifacts"]
    for path in sources:
        if path.stat().st_size > FILE_MB * 1e6:
            yield Problem(
                given.short(path), f"{path.stat().st_size / 1e6:.1f} MB", f"at most {FILE_MB} MB a source file"
            )
    if (total := sum(p.stat().st_size for p in sources)) > FOLDER_MB * 1e6:
        yield Problem(
            given.name, f"{total / 1e6:.1f} MB of sources", f"at most {FOLDER_MB} MB: nothing large is source"
        )
    for entry in given.entries:
        yield from (
            Problem(given.short(entry.path), e["msg"], "shorten it") for e in entry.errors if e["type"] == "size"
        )
    for path, manifest in _manifests(given):
        yield from _artifact_size(given, path.parent, set(_listed(manifest)))


def _artifact_size(given: Submission, folder: Path, listed: set[Any]) -> Iterator[Problem]:
    there = [p for p in given.plain if p.is_relative_to(folder)]
    for path in there:
        if path.name != "manifest.json" and path.name not in listed:
            yield Problem(given.short(path), "is not in the manifest", "list every file of the artifact, or remove it")
    total = sum(p.stat().st_size for p in there)
    if total > ARTIFACT_MB * 1e6:
        yield Problem(given.short(folder), f"{total / 1e6:.0f} MB", f"at most {ARTIFACT_MB:.0f} MB an artifact")
    for entry, record in given.records:
        for form, deployment in record.deployments.items():
            if record.task == folder.name and deployment.bytes_on_disk != total:
                seen = f"{form} says {deployment.bytes_on_disk:,} bytes; the folder has {total:,}"
                yield Problem(given.short(entry.path), seen, f"make the record again: bench run {given.name}")


def text(given: Submission) -> Iterator[Problem]:
    """Every text is short, in UTF-8, all of its characters can be seen, and what the board shows is no markup."""
    for path in given.plain:
        if path.suffix in CODE and path.stat().st_size <= FILE_MB * 1e6:
            try:
                words = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                yield Problem(given.short(path), "is not UTF-8 text", "save it as UTF-8")
                continue
            if found := unseen(words.replace("\t", "").replace("\r", "")):
                yield Problem(given.short(path), f"holds {', '.join(found[:5])}", "remove these characters")
    for entry, record in given.records:
        for place, words in _texts(record):
            if found := unseen(words):
                yield Problem(
                    given.short(entry.path), f"{place} holds {', '.join(found[:5])}", "remove these characters"
                )
            if tag := markup(words):
                yield Problem(given.short(entry.path), f"{place} holds {tag!r}", "write plain text, without markup")
            if len(words) > 4000:
                yield Problem(given.short(entry.path), f"{place} has {len(words):,} characters", "at most 4,000")


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    def walk(place: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield f"{place}'s keys", str(key)
                yield from walk(f"{place}.{key}"[:80], inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from walk(place, inner)

    for part in ("method", "machine", "code"):
        yield from walk(part, getattr(record, part).model_dump())
    for run in record.runs:
        yield from walk("runs", run.model_dump())
    for form in record.deployments.values():
        yield from walk("deployments", form.model_dump(exclude={"quality"}))


def memorised(given: Submission) -> Iterator[Problem]:
    """No texts or labels of the tasks stand in the files, as words, as hashes or as numbers."""
    wanted = {task: [_words(text) for text in texts] for task, texts in given.data.items()}
    for path in given.plain:
        data = _data(path)
        printable = b"\n".join(re.findall(rb"[\x20-\x7e\x80-\xff]{16,}", data)).decode("utf-8", "ignore")
        words = _words(printable)
        shingles = {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}
        digests = set(re.findall(r"[0-9a-f]{32,64}", printable))
        for task, texts in wanted.items():
            found = sum(" ".join(text[:SHINGLE]) in shingles for text in texts if len(text) >= SHINGLE)
            found += sum(bool(_digests(text) & digests) for text in given.data[task]) if digests else 0
            if found > COPIES:
                yield Problem(
                    given.short(path),
                    f"holds {found} texts of {task}",
                    "remove them: students learn, they look nothing up",
                )
        for task, published in given.tasks.items():
            if _holds_labels(data, published.exam_labels):
                yield Problem(given.short(path), f"holds the exam's labels of {task}", "remove them")


def _data(path: Path) -> bytes:
    """The file's bytes, unpacked where it is packed; none of one that another rule refuses."""
    if path.stat().st_size > MOST_BYTES:
        return b""
    if path.suffix != packed.SUFFIX:
        return path.read_bytes()
    try:
        return packed.unpack(path, MOST_BYTES)
    except ValueError:
        return b""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _digests(text: str) -> set[str]:
    raw = text.encode()
    return {hashlib.new(name, raw, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256")}


def _holds_labels(data: bytes, labels: list[float]) -> bool:
    """64 labels in a row, as a list in a text or as a tensor of a usual type."""
    some = labels[:64]
    if len(set(some)) < 2 or len(some) < 32:
        return False
    said = ",".join(f"{label:g}" for label in some).encode()
    if said in re.sub(rb"\.0+\b|\s", b"", data):
        return True
    kinds = ("<i8", "<i4", "<f4", "<f8") + (("i1",) if all(label == int(label) for label in some) else ())
    return any(np.array(some).astype(kind).tobytes() in data for kind in kinds)


def _parts(given: Submission, path: Path) -> tuple[str, ...]:
    return path.relative_to(given.folder).parts


def _manifests(given: Submission) -> Iterator[tuple[Path, Any]]:
    for path in given.plain:
        if path.name == "manifest.json" and path.stat().st_size <= FILE_MB * 1e6:
            try:
                yield path, json.loads(path.read_bytes())
            except (ValueError, RecursionError):
                yield path, None


def _listed(manifest: Any) -> list[Any]:
    found = manifest.get("files") if isinstance(manifest, dict) else None
    return list(found) if isinstance(found, dict) else []


RULES = (card, name, paths, files, size, text, memorised)
