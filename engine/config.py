"""Frozen engine settings, checked on construction; no torch."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from earlybird.engine.errors import ConfigError

BUNDLED = "bundled"
"""The model that ships with the package."""

Embedding = Literal["norm_then_project", "project_then_norm"]
Pool = Literal["first", "mean"]
Activation = Literal["gelu", "gelu_new"]
Classifiers = Literal["shared", "per_layer"]
LearnedExits = Literal["none", "shared", "per_layer"]
Placement = Literal["attention", "ffn", "sequential"]
AdapterModule = Literal["identity", "attention", "convolution", "mlp"]
RunnerName = Literal["auto", "packed", "resident", "reference"]
DeviceName = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "float64", "bfloat16", "float16", "int8"]  # int8: the layer's four maps; the rest is float32
CUDA_TIERS = ((8, 128, 1), (32, 512, 1), (128, 2048, 2), (512, 8192, 4))
"""Default tiers: (slots, tokens, steps per host read). The first serves an idle queue, the last fills a large card.
They come from a cost model, not from a measurement. Each tier has rows for one text of max_tokens, so the first is
small only where max_tokens is."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Bottleneck adapters with weights per depth beside the shared layer (PF-BERxiT, section 3.1).

    placement  attention: parallel to the attention, on its input. ffn: parallel to the feed-forward part, on its input.
               sequential: on the attention's output, before it is added and normed.
    module     the operation between the two maps: identity, (self-)attention, convolution (of kernel 1), mlp.
    """

    rank: int = 32
    placement: Placement = "ffn"
    module: AdapterModule = "identity"

    def __post_init__(self) -> None:
        _at_least("adapters: rank", self.rank, 1)
        _one_of("adapters: placement", self.placement, get_args(Placement))
        _one_of("adapters: module", self.module, get_args(AdapterModule))


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Geometry of a repeatedly applied shared layer, with a classifier output after every pass.

    embedding    norm_then_project: words + positions, layer norm, then up to the hidden size (ALBERT).
                 project_then_norm: words up to the hidden size, + positions, then layer norm (elbert-mini).
    pool         first: the first token through a pooler and tanh (ALBERT). mean: the mean over the text's states.
    activation   gelu: exact (erf). gelu_new: the tanh form (ALBERT).
    classifiers  shared: one for all depths. per_layer: one per depth.
    learned_exits  heads that predict whether the classifier is right (BERxiT): none, one for all depths, one per depth.
    groups       layers with weights of their own (ALBERT's num_hidden_groups): 1: one shared by all passes; as many as
                 `layers`: one per pass; between: each is shared by neighbouring passes.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    heads: int
    ffn_size: int
    layers: int  # largest number of passes
    max_positions: int
    embedding: Embedding
    pool: Pool
    activation: Activation
    layer_norm_eps: float
    n_labels: int = 3
    classifiers: Classifiers = "shared"
    learned_exits: LearnedExits = "none"
    adapters: AdapterConfig | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "embedding_size", "hidden_size", "heads", "ffn_size", "layers", "max_positions")
        for name in (*sizes, "groups"):
            _at_least(name, getattr(self, name), 1)
        _at_least("n_labels", self.n_labels, 2)
        if self.hidden_size % self.heads:
            raise ConfigError(f"hidden_size: a multiple of {self.heads} heads required, was {self.hidden_size}")
        if not 0 < self.layer_norm_eps < 1:
            raise ConfigError(f"layer_norm_eps: between 0 and 1 required, was {self.layer_norm_eps}")
        if self.groups > self.layers:
            raise ConfigError(f"groups: at most {self.layers} layers required, was {self.groups}")
        _one_of("embedding", self.embedding, get_args(Embedding))
        _one_of("pool", self.pool, get_args(Pool))
        _one_of("activation", self.activation, get_args(Activation))
        _one_of("classifiers", self.classifiers, get_args(Classifiers))
        _one_of("learned_exits", self.learned_exits, get_args(LearnedExits))

    def group(self, number: int) -> int:
        """Return the group of pass `number`, both counted from 0."""
        return int(number / (self.layers / self.groups))  # rounding included, transformers' rule

    def group_name(self, group: int) -> str:
        """Return what the names of a group's tensors begin with."""
        return "layer" if self.groups == 1 else f"layer.{group}"


_ALWAYS_HASHED = ("n_labels", "classifiers")


def hashed_geometry(config: ModelConfig) -> dict[str, Any]:
    """Return the part of a geometry that a config_hash covers.

    Fields at their defaults are left out, so that new fields of later versions change no recorded hash. The two fields
    that had defaults in the first version stay in.
    """
    fields = dataclasses.asdict(config)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return {
        name: repr(value) if isinstance(value, float) else value
        for name, value in fields.items()
        if name in _ALWAYS_HASHED or value != defaults[name]
    }


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The model to run, and how to run it."""

    model: str = BUNDLED  # or a folder: our format, or a Hugging Face AlbertForSequenceClassification
    policy: str | None = None  # e.g. "cwb:delta=0.3,window=2", "fixed:3", "full"; None: the manifest's
    max_tokens: int | None = None  # None: the manifest's; all positions for a Hugging Face folder
    runner: RunnerName = "auto"  # auto: resident where there is CUDA, else packed
    device: DeviceName = "auto"  # auto: cuda if there is one, for runners that can use it
    dtype: Dtype = "float32"  # bfloat16 and float16 are fast on a GPU
    slots: int = 16  # texts in the model at once; more adds latency and hardly any throughput
    token_budget: int = 512  # tokens in the model at once, over all slots
    deterministic: bool = True  # a text's output bits depend on that text alone
    tiers: tuple[tuple[int, int, int], ...] | None = None
    """Resident runner only: (slots, tokens, steps per host read) of every captured step, ascending. None: CUDA_TIERS
    on a GPU; slots and token_budget on a CPU."""
    compile: bool = False
    """Resident runner on CUDA only: compile the step before it is captured. `compile` and `tiers` are refused where
    no machine could use them; without CUDA they are removed from the loaded engine's config."""

    def __post_init__(self) -> None:
        _at_least("slots", self.slots, 1)
        _at_least("token_budget", self.token_budget, 1)
        if self.max_tokens is not None:
            _at_least("max_tokens", self.max_tokens, 3)
        _one_of("runner", self.runner, get_args(RunnerName))
        _one_of("device", self.device, get_args(DeviceName))
        _one_of("dtype", self.dtype, get_args(Dtype))
        if self.device == "cuda" and self.runner in ("packed", "reference"):
            raise ConfigError(f"device: cuda needs the resident runner, was {self.runner}")
        if self.dtype == "int8" and (self.runner == "resident" or self.device == "cuda"):
            raise ConfigError("dtype: int8 runs in packed slots on the CPU only, was asked of the resident runner")
        beside = f"was set beside runner {self.runner}, device {self.device}, dtype {self.dtype}"
        packed = self.runner == "auto" and (self.device == "cpu" or self.dtype == "int8")  # packed on every machine
        if packed or self.runner in ("packed", "reference"):
            if self.tiers is not None:
                raise ConfigError(f"tiers: only a resident runner has them, {beside}")
            if self.compile:
                raise ConfigError(f"compile: only a resident runner has steps to compile, {beside}")
        if self.compile and self.device == "cpu":
            raise ConfigError(f"compile: steps are compiled on CUDA only, {beside}")
        for tier in self.tiers or ():
            for name, value in zip(("slots", "tokens", "steps"), tier, strict=True):
                _at_least(f"tiers: {name}", value, 1)


def _at_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}: at least {least} required, was {value!r}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}: one of {', '.join(allowed)} required, was {value!r}")
