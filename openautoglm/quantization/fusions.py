"""Fewer and faster operators for the same function: what ONNX Runtime's own fusions leave in an encoder's graph.

Every form is found by its structure, in any family whose graph has it, and the result is kept only where it answers as
the graph it was made from. Their share of the time, on a pruned BERT at batch 1 and 24 pieces (one core, AVX512-VNNI):

    residual sums as Sum      -18 %  ONNX Runtime turns Add + LayerNormalization into SkipLayerNormalization, which is
                                     slower than the two
    Attention as one operator -11 %  no Reshape and Transpose, no mask arithmetic; one product for query, key and value
    first piece alone          -4 %  the head reads one state of the last layer, so its other queries are not computed
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from openautoglm.task import SHORTEST

DOMAIN = "com.microsoft"
MASK = "attention_mask_int32"


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """An equal model with fewer operators; the very model where nothing can be fused, or not equally."""
    fused = _Graph(model)
    fused.drop_constant_lookups(_constant_lookups(model))
    matches = fused.attentions()
    fused.read_first_piece(matches)
    for match in matches:
        fused.replace(match)
    fused.sum_residuals()
    fused.sweep()
    difference = _difference(model, fused.model)
    if not difference <= 1e-4:  # nor NaN
        logging.getLogger(__name__).warning("The fused graph differs by %.2g; the plain one is used.", difference)
        return model
    return fused.model


@dataclass
class Attention:
    """A softmax attention found in a graph: q, k, v (batch, length, heads * head size) are names of tensors."""

    q: str
    k: str
    v: str
    output: onnx.NodeProto  # the node that gives (batch, length, heads * head size)
    heads: int
    scale: float
    name: str


class _Graph:
    """A copy of a model that is being changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._index()

    def _index(self) -> None:
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def _made_by(self, name: str, *ops: str) -> onnx.NodeProto | None:
        node = self.producers.get(name)
        return node if node is not None and node.op_type in ops else None

    def _used_by(self, node: onnx.NodeProto, op: str) -> onnx.NodeProto | None:
        users = self.users.get(node.output[0], [])
        return users[0] if len(users) == 1 and users[0].op_type == op else None

    def _before_heads(self, name: str) -> str | None:
        """The tensor (batch, length, width) that Reshape and Transpose gave heads."""
        while node := self._made_by(name, "Transpose"):
            name = node.input[0]
        node = self._made_by(name, "Reshape")
        return node.input[0] if node else None

    def _width(self, name: str) -> int | None:
        """The width of a linear's output, by its bias."""
        node = self._made_by(name, "Add")
        biases = [self.constants[i] for i in (node.input if node else ()) if i in self.constants]
        return len(biases[0]) if biases and biases[0].ndim == 1 else None

    def attentions(self) -> list[Attention]:
        """All of softmax(scale * q k^T + mask) v whose q, k and v are linears of one width."""
        found = [self._attention(node) for node in self.graph.node if node.op_type == "Softmax"]
        return [match for match in found if match]

    def _attention(self, softmax: onnx.NodeProto) -> Attention | None:
        masked = self._made_by(softmax.input[0], "Add")
        scaled = masked and self._made_by(masked.input[0], "Mul", "Div")
        product = scaled and self._made_by(scaled.input[0], "MatMul")
        context = self._used_by(softmax, "MatMul")
        transposed = context and self._used_by(context, "Transpose")
        output = transposed and self._used_by(transposed, "Reshape")
        if not (scaled and product and context and output) or scaled.input[1] not in self.constants:
            return None
        sources = [self._before_heads(name) for name in (*product.input, context.input[1])]
        widths = {self._width(name) if name else None for name in sources}
        factor = float(self.constants[scaled.input[1]])
        scale = factor if scaled.op_type == "Mul" else 1 / factor
        width = widths.pop()
        if widths or not width:
            return None
        q, k, v = (str(name) for name in sources)
        head_size = round(scale**-2)  # what is not scaled so fails the comparison at the end
        return Attention(q, k, v, output, width // head_size, scale, softmax.name.rsplit("/", 1)[0])

    def read_first_piece(self, matches: list[Attention]) -> None:
        """Where the head reads the first piece alone, compute only its query and residual in the last attention."""
        reads = [n for n in self.graph.node if n.op_type == "Gather" and self._axis(n) == 1 and self._first(n.input[1])]
        if not matches or not reads:
            return
        last = matches[-1]
        query, keys = self._chain(last.q), self._chain(last.k) + self._chain(last.v)
        source = query[-1].input[0]
        first = f"{source}_first"
        for node in self.users[source]:
            if node not in keys and node.op_type in ("MatMul", "Add"):
                node.input[list(node.input).index(source)] = first
        for name, value in (("zero", 0), ("one", 1)):
            self._store(np.array([value]), f"first_{name}")
        inputs = [source, "first_zero", "first_one", "first_one"]
        self._insert_after(source, helper.make_node("Slice", inputs, [first], name=f"{last.name}/first"))

    def _chain(self, name: str) -> list[onnx.NodeProto]:
        """The linears that end in `name`, last first: MatMul and Add with a constant."""
        nodes = []
        while node := self._made_by(name, "MatMul", "Add"):
            free = [i for i in node.input if i not in self.constants]
            if len(free) != 1:
                break
            nodes.append(node)
            name = free[0]
        return nodes

    def _axis(self, node: onnx.NodeProto) -> int:
        return next((a.i for a in node.attribute if a.name == "axis"), 0)

    def _first(self, index: str) -> bool:
        return index in self.constants and self.constants[index].ndim == 0 and int(self.constants[index]) == 0

    def replace(self, match: Attention) -> None:
        """One operator in the place of an attention: with its three linears, where they read one input."""
        if MASK not in self.producers:
            cast = helper.make_node("Cast", ["attention_mask"], [MASK], name=MASK, to=TensorProto.INT32)
            self.graph.node.insert(0, cast)
            self.producers[MASK] = cast
        chains = [self._chain(name) for name in (match.q, match.k, match.v)]
        together = all(len(chain) == 2 for chain in chains) and len({c[1].input[0] for c in chains}) == 1
        if together:
            weight = np.concatenate([self.constants[c[1].input[1]] for c in chains], axis=1)
            bias = np.concatenate([self.constants[i] for c in chains for i in c[0].input if i in self.constants])
            self._store(weight, f"{match.name}/qkv.weight")
            self._store(bias, f"{match.name}/qkv.bias")
            inputs = [chains[0][1].input[0], f"{match.name}/qkv.weight", f"{match.name}/qkv.bias", MASK]
        else:
            inputs = [match.q, match.k, match.v, "", MASK]
        node = helper.make_node(
            "Attention" if together else "MultiHeadAttention",
            inputs,
            list(match.output.output),
            name=f"{match.name}/Attention",
            domain=DOMAIN,
            num_heads=match.heads,
            scale=match.scale,
        )
        match.output.CopyFrom(node)

    def sum_residuals(self) -> None:
        """Add before LayerNormalization becomes Sum."""
        for node in self.graph.node:
            if node.op_type == "LayerNormalization" and (add := self._made_by(node.input[0], "Add")):
                add.op_type = "Sum"

    def drop_constant_lookups(self, rows: dict[str, int]) -> None:
        """Lookups (node names) that always give one row become that row."""
        for node in [n for n in self.graph.node if n.name in rows]:
            self._store(self.constants[node.input[0]][rows[node.name]], f"{node.output[0]}_row")
            for user in self.users[node.output[0]]:
                user.input[list(user.input).index(node.output[0])] = f"{node.output[0]}_row"
        self._index()

    def sweep(self) -> None:
        """Remove nodes and weights that nothing reads, and say which operators are the runtime's own."""
        while True:
            read = {name for node in self.graph.node for name in node.input} | {o.name for o in self.graph.output}
            dead = [node for node in self.graph.node if not read.intersection(node.output)]
            if not dead:
                break
            for node in dead:
                self.graph.node.remove(node)
        for tensor in [t for t in self.graph.initializer if t.name not in read]:
            self.graph.initializer.remove(tensor)
        if not any(opset.domain == DOMAIN for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _store(self, value: np.ndarray, name: str) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.constants[name] = value

    def _insert_after(self, name: str, node: onnx.NodeProto) -> None:
        self.graph.node.insert(list(self.graph.node).index(self.producers[name]) + 1, node)
        self.producers[node.output[0]] = node


def _constant_lookups(model: onnx.ModelProto) -> dict[str, int]:
    """Gather nodes (by name) that look up one row whatever the texts, such as token types; and that row."""
    from_texts = {"input_ids", "attention_mask"}
    tables = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    lookups = []
    for node in model.graph.node:  # sorted: what a node reads is known before it
        if node.op_type != "Shape" and from_texts.intersection(node.input):
            from_texts.update(node.output)
        elif node.op_type == "Gather" and node.input[0] in tables:
            lookups.append(node)
    indices = _run(model, [node.input[1] for node in lookups]) if lookups else []
    return {node.name: int(index.flat[0]) for node, index in zip(lookups, indices, strict=True) if np.ptp(index) == 0}


def _difference(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """Largest difference of any output for two random texts, one of them padded, as a share of the output's size."""
    names = [output.name for output in one.graph.output]
    pairs = zip(_run(one, names), _run(other, names), strict=True)
    return float(np.max([np.abs(a - b).max() / max(np.abs(a).max(), 1.0) for a, b in pairs]))


def _run(model: onnx.ModelProto, names: list[str]) -> list[np.ndarray]:
    """Tensors of `model` by name, for two texts of SHORTEST and 5 pieces."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    looked_up = {n.input[0] for n in model.graph.node if n.op_type == "Gather" and n.input[1] == "input_ids"}
    words = min((tensor.dims[0] for tensor in model.graph.initializer if tensor.name in looked_up), default=1)
    ids = np.random.default_rng(0).integers(0, words, (2, SHORTEST))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given, read = {"input_ids": ids, "attention_mask": mask}, [i.name for i in session.get_inputs()]
    results = session.run(None, {name: given[name] for name in read})  # no mask where every attention was dropped
    by_name = dict(zip(dict.fromkeys(names), results, strict=True))
    return [by_name[name] for name in names]
