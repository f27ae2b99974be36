"""The graph of an artifact, packed or not."""

from pathlib import Path

import onnx

from openautoglm import artifact


def graph_of(folder: Path, name: str = "model.onnx") -> onnx.GraphProto:
    """Without the weights that lie beside it."""
    return onnx.load_model_from_string(artifact.content(folder, artifact.read(folder), name)).graph
