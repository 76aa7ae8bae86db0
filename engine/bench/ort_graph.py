"""Hand-written ONNX graph of the model, with weights as constants of their products.

An exported graph reaches its weights through Transpose nodes, and dynamic quantisation then silently leaves every
product in float32. `eight_bits` refuses that.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError

_OPSET, _CONTRIB, _IR = 20, 1, 10


def full(config: ModelConfig, tensors: Mapping[str, Tensor]) -> Any:
    """Build the full-depth graph: ids (1, T) int64 -> logits (1, C).

    The logits are those after the last pass. The passes share their weights.
    """
    graph = _Graph(config, tensors)
    hidden = graph.embed("ids")
    for _ in range(config.layers):
        hidden = graph.layer(hidden)
    graph.answer(hidden)
    return graph.finish({"ids": TensorProto.INT64}, ["logits"])


def embedding(config: ModelConfig, tensors: Mapping[str, Tensor]) -> Any:
    """Build the embedding graph: ids (1, T) int64 -> hidden (1, T, H)."""
    graph = _Graph(config, tensors)
    graph.node("Identity", [graph.embed("ids")], "hidden")
    return graph.finish({"ids": TensorProto.INT64}, ["hidden"])


def one_pass(config: ModelConfig, tensors: Mapping[str, Tensor]) -> Any:
    """Build the graph of one pass: hidden (1, T, H) -> hidden and logits.

    Returns wide (1, T, H) after one more pass, and its logits (1, C).
    """
    graph = _Graph(config, tensors)
    wide = graph.node("Identity", [graph.layer("hidden")], "wide")
    graph.answer(wide)
    return graph.finish({"hidden": TensorProto.FLOAT}, ["wide", "logits"])


def eight_bits(model: Any, *, reduce_range: bool) -> Any:
    """Quantise a graph to dynamic int8 products, with a scale for each output.

    `reduce_range`: 7-bit weights, for CPUs whose 16-bit sums would overflow. Raises ConfigError unless every product
    was converted.
    """
    with tempfile.TemporaryDirectory() as folder, _quantiser_quiet():
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, before)
        quantize_dynamic(
            before,
            after,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        quantised = onnx.load(after)
    left = [node.name for node in quantised.graph.node if node.op_type in ("MatMul", "Gemm")]
    if left:
        raise ConfigError(f"onnx int8: every product in eight bits required, {len(left)} are in float32: {left}")
    return quantised


class _Graph:
    """Builder that appends nodes and constants."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
        if config.embedding != "norm_then_project" or config.pool != "first":
            raise ConfigError("onnx: a model of ALBERT's form required")
        self._config, self._nodes, self._constants = config, list[Any](), dict[str, Any]()
        self._tensors = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        for part in ("weight", "bias"):
            triple = np.split(self._tensors[f"layer.query_key_value.{part}"], 3)
            for name, values in zip(("query", "key", "value"), triple, strict=True):
                self._tensors[f"{name}.{part}"] = values

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{len(self._nodes)}", **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def linear(self, rows: str, name: str) -> str:
        weight = self.constant(f"{name}.transposed", self._tensors[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self._tensors[f"{name}.bias"])
        return self.node("Add", [self.node("MatMul", [rows, weight]), bias])

    def norm(self, rows: str, name: str) -> str:
        weight, bias = (self.constant(f"{name}.{part}", self._tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        epsilon = self._config.layer_norm_eps
        return self.node("LayerNormalization", [rows, weight, bias], axis=-1, epsilon=epsilon)

    def embed(self, ids: str) -> str:
        words = self.node("Gather", [self.constant("words", self._tensors["embedding.words"]), ids])
        one, zero = self.constant("one", np.array([1])), self.constant("zero", np.array([0]))
        length = self.node("Slice", [self.node("Shape", [ids]), one, self.constant("two", np.array([2]))])
        positions = self.constant("positions", self._tensors["embedding.positions"])
        places = self.node("Slice", [positions, zero, length, zero])
        return self.linear(
            self.norm(self.node("Add", [words, places]), "embedding.norm"),
            "embedding.project",
        )

    def layer(self, hidden: str) -> str:
        triple = [self.linear(hidden, name) for name in ("query", "key", "value")]
        heads = self._config.heads
        mixed = self.node("MultiHeadAttention", triple, num_heads=heads, domain="com.microsoft")
        attended = self.norm(self.node("Add", [hidden, self.linear(mixed, "layer.attended")]), "layer.attended_norm")
        approximate = "tanh" if self._config.activation == "gelu_new" else "none"
        wide = self.node("Gelu", [self.linear(attended, "layer.widen")], approximate=approximate)
        return self.norm(self.node("Add", [self.linear(wide, "layer.narrow"), attended]), "layer.norm")

    def answer(self, hidden: str) -> str:
        first = self.node("Gather", [hidden, self.constant("first", np.array(0))], axis=1)
        pooled = self.node("Tanh", [self.linear(first, "pooler")])
        return self.node("Identity", [self.linear(pooled, "classifier.0")], "logits")

    def finish(self, inputs: Mapping[str, int], outputs: list[str]) -> Any:
        shapes: dict[str, Any] = {"ids": [1, "T"], "logits": [1, self._config.n_labels]}
        states = [1, "T", self._config.hidden_size]
        graph = helper.make_graph(
            self._nodes,
            "albert",
            [helper.make_tensor_value_info(name, kind, shapes.get(name, states)) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, states)) for name in outputs],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", _CONTRIB)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR)


@contextmanager
def _quantiser_quiet() -> Iterator[None]:
    """Suppress the quantiser's advice on a preparation step.

    A graph of direct constants does not need it.
    """
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
