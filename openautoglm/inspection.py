"""What is in an artifact or a saved student: every layer's shapes, parameters, number formats and bytes. No torch."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError

from leaderboard import packed
from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from openautoglm.quantization import beside
from openautoglm.quantization.four_bits import BLOCK
from openautoglm.summary import aligned, size_in_words

LAYER = re.compile(r"\b(?:layers?|albert_layer_groups)[./](\d+)")
ATTENTION = re.compile(r"attention|self_attn|q_lin|k_lin|v_lin|out_lin|sa_layer_norm")
FFN = re.compile(r"ffn|mlp|intermediate|output[./]|full_layer_layer_norm|lin1|lin2")
SCALES = re.compile(r"_(scale|zero_point|zero)(_fp16)?$")
DISGUISES = re.compile(r"(_(quantized|scale|zero_point|zero|fp16))+$")  # what number formats add to a weight's name
FORMATS = {"float32": "float32", "float16": "float16", "int8": "INT8", "uint8": "UINT8", "int64": "int64"}
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I8": "int8"}

Entry = tuple[str, tuple[int, ...], str, int]  # of a tensor: name, shape, format and bytes


@dataclass(frozen=True)
class Stored:
    """One stored tensor. Scales and zero points have bytes, but are no parameters."""

    place: str  # the module that uses it
    shape: tuple[int, ...]
    format: str
    bytes: int
    parameters: int

    @property
    def part(self) -> str:
        """embedding, layer 0 attention, layer 0 FFN, ..., head."""
        if match := LAYER.search(self.place):
            inner = self.place[match.end() :]
            kind = "attention" if ATTENTION.search(inner) else "FFN" if FFN.search(inner) else "other"
            return f"layer {match[1]} {kind}"
        return "embedding" if "embed" in self.place else "head"


def inspect(folder: Path, *, tensors: bool = False) -> str:
    """The folder's parts as a table; every tensor where asked. ArtifactError where it is neither whole nor ours."""
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        manifest = artifact.read(folder)
        head = f"{manifest.kind} {manifest.runtime} artifact: {manifest.precision}; {manifest.parameters:,} parameters"
        if manifest.labels:
            head += f"\nclasses: {', '.join(manifest.labels)}"
    elif (folder / "config.json").is_file():
        head = f"saved {_json(folder / 'config.json').get('model_type', 'unknown')} model, as trained"
    else:
        raise ArtifactError(
            f"{folder} holds no manifest.json and no config.json: neither an artifact nor a saved model."
        )
    found = list(stored(folder))
    table = _every(found) if tensors else _by_part(found)
    return f"{folder}: {head}\n\n{table}\n\n{_files(folder, sum(tensor.bytes for tensor in found))}"


def stored(folder: Path) -> Iterator[Stored]:
    """Every tensor of the folder's .onnx files, or else of its .safetensors files, in the files' order."""
    files = {path.name.removesuffix(packed.SUFFIX): path for path in _paths(folder)}
    graphs, weights = ([name for name in sorted(files) if name.endswith(end)] for end in (".onnx", beside.SUFFIX))
    if not graphs and not weights:
        raise ArtifactError(f"{folder} holds no .onnx and no .safetensors file: export or save the model again.")
    for name in graphs:
        yield from _onnx(files[name], files.get(name.removesuffix(".onnx") + beside.SUFFIX))
    for name in [] if graphs else weights:
        yield from _safetensors(files[name])


def _paths(folder: Path) -> list[Path]:
    """An artifact's files, by its manifest; of a saved student, all."""
    if (folder / "manifest.json").is_file():
        return [folder / name for name in artifact.read(folder, check_hashes=False).files]
    return list(folder.iterdir())


def _open(path: Path) -> BinaryIO:
    """A file as it is, or what is in a packed one."""
    if path.suffix != packed.SUFFIX:
        return path.open("rb")
    try:
        return io.BytesIO(packed.unpack(path))
    except ValueError as error:
        raise ArtifactError(f"{path.parent}: {error}. Export the model again.") from None


def _onnx(path: Path, weights: Path | None) -> Iterator[Stored]:
    """weights: the file of those that are unpacked at load, where the graph has some."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with _open(path) as file:
            graph = onnx.load(file, load_external_data=False).graph
    except (DecodeError, OSError) as error:
        raise ArtifactError(f"{path}: unreadable ({error}). Export the model again.") from None
    used_by: dict[str, Any] = {}
    for node in graph.node:
        for name in node.input:
            used_by.setdefault(name, node)

    def place(name: str) -> str:
        node = used_by.get(name)
        while node is not None and node.op_type == "Cast" and node.output[0] in used_by:  # a weight in 16 bits
            node = used_by[node.output[0]]
        named = DISGUISES.sub("", name)
        return named if named.startswith("model.") or node is None else node.name

    entries: list[Entry] = []
    declared: dict[str, tuple[int, ...]] = {}
    for tensor in graph.initializer:
        shape = tuple(tensor.dims)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            declared[tensor.name] = shape
        else:
            form = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            size = int(np.prod(shape, dtype=np.int64)) * form.itemsize
            entries.append((tensor.name, shape, FORMATS.get(form.name, form.name), size))
    if weights:
        entries += _beside(weights, declared)
    for name, shape, known, size in entries:
        weight = not SCALES.search(name) and known != "int64"
        yield Stored(place(name), shape, known, size, int(np.prod(shape, dtype=np.int64)) * weight)


def _beside(path: Path, declared: dict[str, tuple[int, ...]]) -> list[Entry]:
    """Each tensor in the file beside a graph. declared: the shapes of what the graph takes from it."""
    try:
        with _open(path) as file:
            tensors, made = beside.read(file.read())
        shapes = dict(declared)
        for name, (table, _) in made.items():
            if isinstance(table, str):
                whole = f"{table}.whole.weight_quantized"
                shapes[whole] = len(tensors[whole]), declared[name][1]
        found = []
        for name in [*(name for name in shapes if name in tensors), *sorted(tensors.keys() - shapes.keys())]:
            value = tensors[name]
            known = f"INT{_bits(value)}" if value.ndim == 3 else FORMATS.get(value.dtype.name, value.dtype.name)
            found.append((name, shapes.get(name, value.shape), known, value.nbytes))
        return found
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:  # foreign bytes, or numbers, or none
        raise ArtifactError(f"{path}: no weights for this graph ({error}). Export the model again.") from None


def _bits(weights: np.ndarray) -> int:
    """3 where no code needs the fourth; what was a code from -4 to 3 lies between 4 and 11."""
    codes = weights[..., :BLOCK]
    halves = np.concatenate([codes & 15, codes >> 4])
    return 3 if halves.min() >= 4 and halves.max() <= 11 else 4


def _safetensors(path: Path) -> Iterator[Stored]:
    """From the file's header alone: 8 bytes of length, then JSON."""
    try:
        with _open(path) as file:
            length, whole = int.from_bytes(file.read(8), "little"), file.seek(0, io.SEEK_END)
            if length > whole:
                raise ValueError("cut off")
            file.seek(8)
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                count, form = int(np.prod(entry["shape"], dtype=np.int64)), entry["dtype"]
                yield Stored(name, tuple(entry["shape"]), SAFETENSORS.get(form, form), end - start, count)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: no whole safetensors file ({error}). Save or export the model again.") from None


def by_part(found: list[Stored]) -> dict[str, list[Stored]]:
    """part -> its tensors: embedding first, then the layers by number, then the head."""
    parts: dict[str, list[Stored]] = {}
    for tensor in found:
        parts.setdefault(tensor.part, []).append(tensor)

    def order(part: str) -> tuple[int, int]:
        number = re.search(r"\d+", part)
        return (0 if part == "embedding" else 1 if number else 2, int(number[0]) if number else 0)

    return dict(sorted(parts.items(), key=lambda item: order(item[0])))


def _by_part(found: list[Stored]) -> str:
    total = sum(tensor.bytes for tensor in found)
    rows: list[list[str]] = [["part", "largest weights", "parameters", "formats", "bytes", "share"]]
    for part, tensors in by_part(found).items():
        matrices = sorted((t for t in tensors if t.parameters and len(t.shape) == 2), key=lambda t: -t.parameters)
        shapes = ", ".join("x".join(map(str, t.shape)) for t in matrices[:4])
        formats = sorted({t.format for t in matrices or tensors})
        size, count = sum(t.bytes for t in tensors), sum(t.parameters for t in tensors)
        rows.append([part, shapes, f"{count:,}", "+".join(formats), f"{size:,}", f"{size / total:.1%}"])
    return aligned(rows)


def _every(found: list[Stored]) -> str:
    rows = [["tensor", "shape", "format", "bytes"]]
    for tensor in found:
        rows.append([tensor.place, "x".join(map(str, tensor.shape)) or "1", tensor.format, f"{tensor.bytes:,}"])
    return aligned(rows)


def _files(folder: Path, weights: int) -> str:
    files = [path for path in folder.iterdir() if path.is_file()]
    whole, unpacked = sum(path.stat().st_size for path in files), sum(map(_size, files))
    rows = [["file", "bytes"]] + [[p.name, f"{p.stat().st_size:,}"] for p in sorted(files)]
    total = size_in_words(whole) + (f", unpacked {size_in_words(unpacked)}" if whole != unpacked else "")
    rest = (
        f"weights {size_in_words(weights)}, all else (graph, tokenizer, manifest) {size_in_words(unpacked - weights)}"
    )
    return f"{aligned(rows)}\nwhole folder: {total}; {rest}"


def _size(path: Path) -> int:
    """Unpacked."""
    with _open(path) as file:
        return file.seek(0, io.SEEK_END)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: unreadable ({error}). Save the model again.") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path}: holds no JSON object. Save the model again.")
    return found
