"""A fingerprint of the arithmetic: which bits this machine, this torch and these kernels give."""

import hashlib
import struct

import torch

from engine.slots.kernels import one_thread
from engine.slots.layered import Layered
from engine.slots.resident_layer import StaticElbert
from engine.slots.runner import Runner
from engine.types import Request

# Around a GEMM's and a softmax's block sizes, so that another kernel shows.
_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 21, 24, 28, 31, 32, 33, 40, 48, 63, 64, 65, 80)


@torch.inference_mode()
def numerics(model: Layered) -> str:
    """16 hex digits over the logits' bits of built-in probe texts after every layer, on one thread and through the
    very path that a runner uses. Equal numerics in deterministic mode: equal verdicts, bit for bit, for every text.
    """
    fingerprint = hashlib.sha256(str(model.dtype).encode())
    lengths = [min(length, model.config.max_positions) for length in _LENGTHS]
    with one_thread():
        hidden = model.embed(_probes(lengths, model.config.vocab_size), lengths)
        for depth in range(1, model.config.layers + 1):
            hidden = model.advance(hidden, lengths)
            logits = model.classify(hidden, lengths, [depth] * len(lengths))
            fingerprint.update(logits.cpu().contiguous().numpy().tobytes())
    return fingerprint.hexdigest()[:16]


def spoken(runner: Runner, model: StaticElbert, *, backwards: bool = False) -> str:
    """16 hex digits over what an empty runner says of the probe texts: their exit layers and the bits of their logits
    there. For runners whose arithmetic cannot be had outside of them. `backwards`: submitted the other way round, which
    gives every text other neighbours and in deterministic mode the same digits."""
    lengths = [min(length, model.longest) for length in _LENGTHS]
    texts = torch.split(_probes(lengths, model.config.vocab_size), lengths)
    requests = [Request(ticket, tuple(text.tolist())) for ticket, text in enumerate(texts)]
    runner.submit(requests[::-1] if backwards else requests)
    said = []
    while runner.waiting or runner.active:
        said += runner.step()
    fingerprint = hashlib.sha256(str(model.dtype).encode())
    for verdict in sorted(said, key=lambda each: each.ticket):
        fingerprint.update(struct.pack(f"<q{len(verdict.logits)}d", verdict.exit_layer, *verdict.logits))
    return fingerprint.hexdigest()[:16]


def _probes(lengths: list[int], vocab_size: int) -> torch.Tensor:
    """Token ids of all probes, one after the other: a fixed formula, spread over the vocabulary."""
    places = torch.arange(sum(lengths), dtype=torch.int64)
    return (places * places * 7919 + places * 104_729 + 101) % vocab_size
