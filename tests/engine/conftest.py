"""A tiny shared-layer model with random weights, and hostile requests for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.config import AdapterConfig, ModelConfig
from earlybird.engine.device.layer import StaticElbert, Tiles
from earlybird.engine.exits.policy import Heads
from earlybird.engine.model import Elbert
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request, Verdict
from earlybird.engine.weights import shapes


@dataclass(frozen=True)
class TinyGeometry:
    vocab_size: int = 97
    layers: int = 8
    max_positions: int = 40
    n_labels: int = 3


class TinyLayered:
    """One attention head and one wide map, applied again and again; its answers wander, so that exits spread."""

    def __init__(self, dtype: torch.dtype, deterministic: bool, seed: int = 7) -> None:
        self.config, self.dtype = TinyGeometry(), dtype
        rng = torch.Generator().manual_seed(seed)

        def weight(*shape: int, scale: float) -> Tensor:
            return (torch.randn(*shape, generator=rng, dtype=torch.float64) * scale).to(dtype)

        linear, width = linears(deterministic), 32
        self._pieces = weight(self.config.vocab_size, width, scale=1.0)
        self._places = weight(self.config.max_positions, width, scale=0.3)
        self._qkv = linear(weight(3 * width, width, scale=0.25), weight(3 * width, scale=0.1), None)
        self._up = linear(weight(64, width, scale=0.2), weight(64, scale=0.1), "gelu")
        self._down = linear(weight(width, 64, scale=0.2), weight(width, scale=0.1), None)
        self._heads = linear(weight(self.config.n_labels, width, scale=0.45), None, None)

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        places = torch.cat([torch.arange(length) for length in lengths])
        return self._norm(self._pieces[token_ids] + self._places[places])

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        query, key, value = self._qkv(hidden).chunk(3, dim=-1)
        texts = zip(*(torch.split(part, list(lengths)) for part in (query, key, value)), strict=True)
        mixed = torch.cat([F.scaled_dot_product_attention(q[None], k[None], v[None])[0] for q, k, v in texts])
        hidden = self._norm(hidden + mixed)
        return self._norm(hidden + self._down(self._up(hidden)))

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        means = torch.stack([text.mean(dim=0) for text in torch.split(hidden, list(lengths))])
        growing = torch.tensor(depths, dtype=self.dtype)[:, None] * 0.25  # later passes are surer
        return Heads(self._heads(means) * growing)

    @staticmethod
    def _norm(hidden: Tensor) -> Tensor:
        return F.layer_norm(hidden, hidden.shape[-1:])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in an engine's thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> Callable[..., TinyLayered]:
    """tiny(dtype=float32, deterministic=False): a model whose exits spread over its 8 layers."""

    def build(dtype: torch.dtype = torch.float32, deterministic: bool = False, seed: int = 7) -> TinyLayered:
        return TinyLayered(dtype, deterministic, seed)

    return build


def _lengths(how: str, count: int, longest: int, rng: torch.Generator) -> list[int]:
    if how == "ones":
        return [1] * count
    if how == "longest":
        return [longest] * count
    if how == "equal":
        return [9] * count
    if how == "extremes":
        return [(1, longest)[i % 2] for i in range(count)]
    assert how == "mixed"
    return torch.randint(1, longest + 1, (count,), generator=rng).tolist()


@pytest.fixture
def hostile() -> Callable[..., list[Request]]:
    """hostile(how, count, longest, vocab_size=97, seed=0): requests of odd lengths with random tokens; `how` is ones,
    longest, equal, extremes or mixed."""

    def build(how: str, count: int, longest: int = 40, vocab_size: int = 97, seed: int = 0) -> list[Request]:
        rng = torch.Generator().manual_seed(seed)
        return [
            Request(ticket, tuple(torch.randint(vocab_size, (length,), generator=rng).tolist()))
            for ticket, length in enumerate(_lengths(how, count, longest, rng))
        ]

    return build


@pytest.fixture
def drain() -> Callable[..., list[Verdict]]:
    """drain(runner, requests, chunk=None): submit `chunk` requests (None: all) before every step, until all is said."""

    def run(runner: Runner, requests: Sequence[Request], chunk: int | None = None) -> list[Verdict]:
        said: list[Verdict] = []
        waiting = list(requests)
        while waiting or runner.waiting or runner.active:
            few, waiting = (waiting[:chunk], waiting[chunk:]) if chunk else (waiting, [])
            runner.submit(few)
            said += runner.step()
        return said

    return run


@dataclass(frozen=True)
class Pair:
    """One set of random weights as a list-shaped and as a static-shaped model."""

    oracle: Elbert
    static: StaticElbert


GEOMETRIES = {
    "albert": ModelConfig(
        97, 16, 32, 2, 64, 6, 40, "norm_then_project", "first", "gelu_new", 1e-12, learned_exits="shared"
    ),
    "late-norm": ModelConfig(
        97, 24, 48, 4, 96, 6, 40, "project_then_norm", "mean", "gelu", 1e-12, 3, "per_layer", "per_layer"
    ),
}
GEOMETRIES["groups"] = replace(GEOMETRIES["late-norm"], groups=4)
GEOMETRIES["adapters"] = replace(GEOMETRIES["late-norm"], adapters=AdapterConfig(8, "ffn", "attention"))


@pytest.fixture
def pair() -> Callable[..., Pair]:
    """pair("albert" | "late-norm" | "groups" | "adapters", dtype=float64, tiles=None, adapters=None): weights wide
    enough for answers that differ; `adapters` in place of the geometry's."""

    def build(
        name: str,
        dtype: torch.dtype = torch.float64,
        tiles: Tiles | None = None,
        adapters: AdapterConfig | None = None,
    ) -> Pair:
        config, rng = GEOMETRIES[name], torch.Generator().manual_seed(1)
        config = replace(config, adapters=adapters or config.adapters)
        tensors = {}
        for tensor, shape in shapes(config).items():
            middle = 1.0 if tensor.endswith("norm.weight") else 0.0
            spread = 1.0 if tensor == "embedding.words" else 1.2 / shape[-1] ** 0.5
            noise = torch.randn(shape, generator=rng, dtype=torch.float64)
            tensors[tensor] = (middle + spread * noise).to(dtype)
        oracle = Elbert(config, tensors, factory=linears(deterministic=False))
        return Pair(oracle, StaticElbert(config, tensors, tiles=tiles))

    return build
