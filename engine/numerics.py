"""Fingerprint of the arithmetic: the bits that this machine, torch build and kernels produce."""

import hashlib

import torch
from torch import Tensor

from earlybird.engine.slots.cpu_linear import one_thread
from earlybird.engine.slots.layered import LayeredModel

# Lengths around the block sizes of GEMM and softmax kernels, so that a different kernel shows.
_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 21, 24, 28, 31, 32, 33, 40, 48, 63, 64, 65, 80)


@torch.inference_mode()
def numerics(model: LayeredModel) -> str:
    """Return 16 hex digits over the heads' bits for built-in probe texts.

    Covers every layer, on one thread, through the path that a runner uses. Equal numerics in deterministic mode mean
    equal verdicts, bit for bit, for every text. A resident loop's numerics come from engine.device.tiling, because its
    arithmetic cannot be run outside of it.
    """
    texts = probes(model.config.vocab_size, model.config.max_positions)
    lengths = [len(text) for text in texts]
    content = bytearray()
    with one_thread():
        hidden = model.embed(torch.cat(texts), lengths)
        for depth in range(1, model.config.layers + 1):
            depths = [depth] * len(lengths)
            hidden = model.advance(hidden, lengths, depths)
            for head in model.classify(hidden, lengths, depths):
                if head is not None:
                    content += head.cpu().contiguous().numpy().tobytes()
    return digest(model.dtype, content)


def digest(dtype: torch.dtype, content: bytes | bytearray) -> str:
    """Return 16 hex digits over a dtype and the bytes computed in it."""
    return hashlib.sha256(str(dtype).encode() + content).hexdigest()[:16]


def probes(vocab_size: int, longest: int) -> tuple[Tensor, ...]:
    """Return the token ids of all probe texts, each (length,) int64.

    No text is longer than `longest`. A fixed formula spreads the ids over the vocabulary.
    """
    lengths = [min(length, longest) for length in _LENGTHS]
    places = torch.arange(sum(lengths), dtype=torch.int64)
    return torch.split((places * places * 7919 + places * 104_729 + 101) % vocab_size, lengths)
