"""Real artifacts that run in microseconds: word ids -> embeddings -> so many layers -> mean -> logits, in ONNX."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from openautoglm import artifact

WORDS = ["[UNK]", "a", "good", "bad", "film", "very", "long", "dull", "fine", "story"]
TEXTS = [" ".join([WORDS[1 + i % 9], WORDS[1 + i // 9], *WORDS[1 : 1 + i % 7]]) for i in range(40)]  # all different


def write(folder: Path, *, layers: int = 2, width: int = 32, words: int = len(WORDS)) -> Path:
    """A classifier with two labels; its time grows with `layers`. words: how many the table holds."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / width**0.5, name)

    nodes = [helper.make_node("Gather", ["embedding", "input_ids"], ["h0"])]
    constants = [weights("embedding", words, width), weights("head", width, 2)]
    for i in range(layers):
        constants.append(weights(f"w{i}", width, width))
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"h{i + 1}"]))
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes += [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["mask3"]),
        helper.make_node("Mul", [f"h{layers}", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["summed"], keepdims=0),
        helper.make_node("MatMul", ["summed", "head"], ["logits"]),
    ]
    constants += [axis, numpy_helper.from_array(np.array([2]), "two")]
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "tiny", ids, [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()

    def fill(aside: Path) -> None:
        onnx.save(model, str(aside / "model.onnx"))
        tokenizer.save(str(aside / "tokenizer.json"))

    manifest = artifact.Manifest(
        runtime="onnx",
        precision="float32",
        kind="classification",
        labels=("no", "yes"),
        max_length=32,
        parameters=int(sum(np.prod(c.dims) for c in constants)),
        shape={"layers": layers},
    )
    return artifact.write(folder, manifest, fill)


def carbon(**changes) -> dict:
    """The fields of params.Carbon."""
    return json.loads(json.dumps(CARBON)) | changes


CARBON = {
    "cpu_watts_per_core": {"low": 2.0, "likely": 4.0, "high": 8.0},
    "memory_watts_per_gb": {"low": 0.2, "likely": 0.4, "high": 0.6},
    "watts_source": "test",
    "grid": "DEU",
    "grid_year": 2023,
    "grid_g_per_kwh": 400.0,
}
