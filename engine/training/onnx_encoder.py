"""Read a BERT encoder from an ONNX file, as packages of sentence encoders ship it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earlybird.engine.errors import NotAModel


def read_bert(path: Path) -> dict[str, Tensor]:
    """Return an ONNX file's tensors by the names of transformers' BertModel.

    There is no pooler. The exporter keeps the names of all tensors but the matrices of linear maps, which it
    transposes; the node that uses one carries its path. Raises NotAModel.
    """
    graph, numpy_helper = _graph(path)
    found: dict[str, Tensor] = {}
    nameless: dict[str, Any] = {}
    for tensor in graph.initializer:
        if tensor.name.startswith(("embeddings.", "encoder.")) and not tensor.name.endswith("position_ids"):
            found[tensor.name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        else:
            nameless[tensor.name] = tensor
    for node in graph.node:
        where = node.name.strip("/").split("/")
        if node.op_type == "MatMul" and where[0] == "encoder" and where[-1] == "MatMul":
            for name in nameless.keys() & set(node.input):
                matrix = torch.from_numpy(numpy_helper.to_array(nameless[name]).copy())
                found[".".join(where[:-1]) + ".weight"] = matrix.T.contiguous()
    if "embeddings.word_embeddings.weight" not in found:
        raise NotAModel(f"{path}: a BERT encoder with named tensors required")
    return found


def _graph(path: Path) -> tuple[Any, Any]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise NotAModel(f"{path}: the package onnx required: pip install earlybird[bench]") from None
    try:
        return onnx.load(path).graph, numpy_helper
    except Exception as error:  # OSError, and protobuf's own errors
        raise NotAModel(f"{path}: no ONNX model, {error}") from None
