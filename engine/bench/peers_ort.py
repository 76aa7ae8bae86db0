"""Peers on onnxruntime, one text at a time: full depth, and early exits.

With early exits each call runs one pass.
"""

from collections.abc import Sequence
from typing import Any

import torch

from earlybird.engine.bench.row import BenchRow, Build, Exits, PeerResult, RowResult, Setting, peer_results
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import Dtype
from earlybird.engine.slots.int8 import weight_range

_OVERFLOWS = 127  # with an int8 weight range under this, 16-bit sums overflow on this CPU


class OnnxRuntime:
    """Sessions over the twin's weights."""

    peer, refilled, slots = True, False, 1

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        self.dtype, self._config, self._threads = dtype, setting.config, setting.threads
        self._tensors = setting.models.tensors

    def session(self, model: Any, dtype: Dtype) -> Any:
        """Create a session of a float32 graph, with its products converted to `dtype`."""
        import onnxruntime

        from earlybird.engine.bench.ort_graph import eight_bits

        if dtype == "int8":
            model = eight_bits(model, reduce_range=weight_range() < _OVERFLOWS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Full(OnnxRuntime):
    """The whole model in one graph."""

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        super().__init__(setting, dtype)
        from earlybird.engine.bench import ort_graph

        self._session = self.session(ort_graph.full(self._config, self._tensors), dtype)

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        found = []
        for text in texts:
            (logits,) = self._session.run(None, {"ids": [text.ids]})
            found.append(PeerResult(text.ticket, self._config.layers, tuple(logits[0].tolist())))
        return found


class LayerExit(OnnxRuntime):
    """One pass per call, then the exit test of all other rows."""

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        super().__init__(setting, dtype)
        from earlybird.engine.bench import ort_graph

        self._embed = self.session(ort_graph.embedding(self._config, self._tensors), "float32")
        self._pass = self.session(ort_graph.one_pass(self._config, self._tensors), dtype)
        self._exits = Exits(self._config.layers)

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return [self._one(text) for text in texts]

    def _one(self, text: BenchText) -> PeerResult:
        (hidden,) = self._embed.run(None, {"ids": [text.ids]})
        state, depth, leaves = self._exits.initial_state(1), 0, False
        while not leaves:
            hidden, rows = self._pass.run(None, {"hidden": hidden})
            logits, depth = torch.from_numpy(rows), depth + 1
            (leaves,), state = self._exits.test([text], logits, [depth], state)
        return peer_results([text], [depth], logits)[0]


def _row(row: type[OnnxRuntime], dtype: Dtype) -> Build:
    def build(setting: Setting) -> BenchRow:
        made: Any = row(setting, dtype)
        checked: BenchRow = made
        return checked

    return build


ROWS: dict[str, Build] = {
    "onnxruntime_fp32_batch1": _row(Full, "float32"),
    "onnxruntime_int8_batch1": _row(Full, "int8"),
    "onnxruntime_int8_exit_batch1": _row(LayerExit, "int8"),
}
