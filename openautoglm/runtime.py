"""Runs an artifact: texts in, logits out. Imports torch only for an artifact whose runtime is torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from openautoglm import artifact, segments
from openautoglm.artifact import Manifest
from openautoglm.quantization import beside


class Session(Protocol):
    """A loaded model."""

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """One padded batch: (n, length) ids and mask, int64 -> (n, outputs) float32 logits."""


class Predictor:
    """A loaded artifact. `manifest` says what it is; `tokenize` and `session` are its two halves."""

    def __init__(self, folder: Path | str, *, threads: int = 1) -> None:
        self.folder = Path(folder)
        self.manifest = artifact.read(self.folder)
        if not (load := _SESSIONS.get(self.manifest.runtime)):
            raise artifact.ArtifactError(
                f"{folder}: runtime {self.manifest.runtime!r}; this version knows {sorted(_SESSIONS)}."
            )
        try:
            self.tokenizer = Tokenizer.from_buffer(artifact.content(self.folder, self.manifest, "tokenizer.json"))
            self.session: Session = load(self.folder, threads, self.manifest)
        except Exception as error:  # the runtimes' own errors have no common class
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise artifact.ArtifactError(f"{folder}: the model does not load ({reason}). Export it again.") from None

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> ids and mask, (n, longest) int64, padded to the longest of the batch."""
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return pad([e.ids for e in encodings])

    def logits(self, texts: Sequence[str], *, batch_size: int = 1) -> np.ndarray:
        """(n, outputs) float32, in the order of the texts; batches are sorted by length, so little is padded."""
        if not texts:
            raise ValueError("No texts given: give at least one.")
        if batch_size == 1:
            return np.concatenate([self.session(*self.tokenize([text])) for text in texts])
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rows = np.concatenate([self.session(*self.tokenize([texts[i] for i in batch])) for batch in batches])
        return rows[np.argsort(order)]


def pad(ids: list[list[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids -> (n, longest) ids and mask, int64, padded on the right."""
    longest = max(len(row) for row in ids)
    padded = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for i, row in enumerate(ids):
        padded[i, : len(row)], mask[i, : len(row)] = row, 1
    return padded, mask


def _onnx(folder: Path, threads: int, manifest: Manifest) -> Session:
    import onnxruntime

    def load(name: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        packed = Path(name).with_suffix(beside.SUFFIX).name
        if artifact.holds(manifest, packed):
            weights = beside.load(artifact.content(folder, manifest, packed))
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
        # from the file where there is one: its bytes would be in memory twice
        graph = str(folder / name) if name in manifest.files else artifact.content(folder, manifest, name)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    if manifest.exits is not None:
        return segments.load(manifest.exits, load)
    session = load("model.onnx")
    read = [given.name for given in session.get_inputs()]  # no mask where every attention was dropped

    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        return session.run(None, {name: given[name] for name in read})[0]

    return run


def _torch(folder: Path, threads: int, manifest: Manifest) -> Session:
    import torch

    from openautoglm.student import load_model

    torch.set_num_threads(threads)
    model = load_model(folder).eval()

    @torch.inference_mode()
    def run(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        ids, mask = torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
        return model(input_ids=ids, attention_mask=mask).logits.float().numpy()

    return run


_SESSIONS = {"onnx": _onnx, "torch": _torch}
