"""The deployable folder: weights, tokenizer and a manifest that names every other file by hash.

    artifact/
      manifest.json      what it is (Manifest) and the sha256 and size of every other file
      tokenizer.json     a `tokenizers` file: text -> ids, cut at max_length
      model.onnx         or model.safetensors + config.json, by runtime; or segment_0.onnx, ... of a model with exits
      model.safetensors  weights of model.onnx that are unpacked at load (openautoglm.quantization.beside)
      *.gz               any of these but the manifest, packed (leaderboard.packed)

Written aside and renamed, so that a folder with a manifest is whole. No torch, no pickle.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from leaderboard import packed
from leaderboard.aside import replacing_folder

FORMAT = 1
NAME = r"[A-Za-z0-9_][\w.-]{0,99}"  # of a file in the folder: nothing that leads out of it
OPTIONAL = {"exits"}  # fields that a manifest states only where it has them


class ArtifactError(ValueError):
    """The folder is not a usable artifact; the message says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What the runtime needs to know. `files` maps each other file to {"sha256", "bytes"}."""

    runtime: str  # "onnx" or "torch"
    precision: str  # number formats of weights and activations, in words
    kind: str  # "classification" or "regression"
    labels: tuple[str, ...]
    max_length: int
    parameters: int  # stored parameters; shared ones once
    shape: dict[str, Any]  # the student's shape, for readers
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    format: int = FORMAT
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    exits: dict[str, Any] | None = None  # of a model with exits: {"segments": file names, "route": Route.describe()}


def write(
    folder: Path,
    manifest: Manifest,
    fill: Callable[[Path], None],
    check: Callable[[Path], object] = lambda aside: None,
    *,
    pack: bool = False,
) -> Path:
    """Let `fill` write the files into an empty folder, add the manifest, `check` the finished artifact, and move all to
    `folder` at once. An artifact that is there is replaced; ArtifactError where the folder holds other things.

    pack: gzip the files. Its Huffman codes are the last step of Deep Compression (Han et al. 2016, arXiv 1510.00149).
    """
    refuse_foreign(folder, "manifest.json", _listed(folder))
    with replacing_folder(folder) as aside:
        fill(aside)
        if pack:
            for path in list(aside.iterdir()):
                packed.pack(path)
        listed = {p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in sorted(aside.iterdir())}
        stated = {key: value for key, value in asdict(manifest).items() if value is not None}
        text = json.dumps(stated | {"files": listed}, indent=1, sort_keys=True, allow_nan=False)
        (aside / "manifest.json").write_text(text + "\n", encoding="utf-8")
        check(aside)
    return folder


def refuse_foreign(folder: Path, mark: str, ours: Collection[str] | None = None) -> None:
    """ArtifactError where `folder` holds anything, but not the file `mark` by which we know it as written by us, or
    more than the names `ours` (None: any).
    """
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    if names and (mark not in names or (ours is not None and not names <= set(ours))):
        raise ArtifactError(f"{folder} holds other things, which would be lost: give a new or an empty folder.")


def _listed(folder: Path) -> set[str]:
    """The files of an artifact, be they whole or not; none where the folder has no manifest of ours."""
    try:
        return {"manifest.json", *_manifest(folder).files}
    except ArtifactError:
        return set()


def read(folder: Path, *, check_hashes: bool = True) -> Manifest:
    """The manifest of an artifact whose files are all there and unchanged; ArtifactError otherwise."""
    manifest = _manifest(Path(folder))
    for name, listed in manifest.files.items():
        file = Path(folder) / name
        if not re.fullmatch(NAME, name, re.ASCII) or file.is_symlink() or not file.is_file():
            raise ArtifactError(f"{folder}: the manifest lists {name!r}, which is not a plain file in the folder.")
        if check_hashes and file_sha256(file) != listed["sha256"]:
            raise ArtifactError(f"{file}: differs from its hash in the manifest. Export or copy the artifact again.")
    return manifest


def _manifest(folder: Path) -> Manifest:
    """What a folder's manifest says, be it true or not; ArtifactError where there is none of this format."""
    path = folder / "manifest.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: no manifest.json, so this is not an artifact folder.") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        raise ArtifactError(f"{path}: unreadable ({error}). Export the model again.") from None
    if not _states(raw):
        raise ArtifactError(f"{path}: not a manifest of format {FORMAT}. Export the model with this version.")
    return Manifest(**(raw | {"labels": tuple(raw["labels"]), "inputs": tuple(raw["inputs"])}))


def _states(raw: Any) -> bool:
    """Is it a manifest: every field there, and of its type?"""
    if not isinstance(raw, dict) or set(raw) | OPTIONAL != {f.name for f in fields(Manifest)}:
        return False
    texts = [raw[key] for key in ("runtime", "precision", "kind")]
    lists, tables = [raw["labels"], raw["inputs"]], [raw["shape"], raw["files"], raw.get("exits", {})]
    return (
        raw["format"] == FORMAT
        and all(isinstance(raw[key], int) for key in ("max_length", "parameters"))
        and all(isinstance(x, list) for x in lists)
        and all(isinstance(x, str) for x in [*texts, *itertools.chain(*lists)])
        and all(isinstance(x, dict) for x in tables)
        and all(isinstance(x, dict) and isinstance(x.get("sha256"), str) for x in raw["files"].values())
    )


def holds(manifest: Manifest, name: str) -> bool:
    """Is there such a file, as it is or packed?"""
    return not {name, name + packed.SUFFIX}.isdisjoint(manifest.files)


def content(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a file of the manifest, unpacked where it is packed; ArtifactError where they cannot be had."""
    if not holds(manifest, name):
        raise ArtifactError(f"{folder}: the manifest lists no {name!r}. Export the model again.")
    if name in manifest.files:
        return (folder / name).read_bytes()
    try:
        return packed.unpack(folder / (name + packed.SUFFIX))
    except ValueError as error:
        raise ArtifactError(f"{folder}: {error}. Export or copy the artifact again.") from None


def size(folder: Path) -> int:
    """Bytes of every file in the folder, the manifest included."""
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())


def sha256(folder: Path) -> str:
    """One hash of the artifact: that of its manifest, which holds those of all other files."""
    return file_sha256(Path(folder) / "manifest.json")


def file_sha256(path: Path) -> str:
    """The hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
