"""Engine: a loaded model with its text encoder and exit policy; one per process."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from earlybird.engine.config import BUNDLED, CUDA_TIERS, EngineConfig, hashed_geometry
from earlybird.engine.device.layer import StaticElbert, Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import CudaDevice, Device, Immediate
from earlybird.engine.device.tiling import fingerprint, probe_outputs, steady
from earlybird.engine.errors import ConfigError, NotTrainedForExits
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.policy import ExitPolicy
from earlybird.engine.exits.spec import parse
from earlybird.engine.manifest import LABELS
from earlybird.engine.model import Elbert
from earlybird.engine.numerics import numerics
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.int8 import EightBits
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import Reference
from earlybird.engine.slots.runner import Runner
from earlybird.engine.temperatures import fitted_for, temperatures_of
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.profiles import profile
from earlybird.engine.weights import Checkpoint, load
from earlybird.schemas.identity import config_hash

BUNDLED_FOLDER = Path(__file__).parent / "assets" / "elbert-mini"
PROFILE_WITHOUT_MANIFEST, ASSEMBLY_WITHOUT_MANIFEST = "natural-v2", "parts-v2"


@dataclass(frozen=True)
class Engine:
    """An immutable loaded model that all engine threads share; each thread uses its own runner.

    A Hugging Face folder has no manifest: it runs at full depth, uncalibrated, under natural-v2, in any language.
    """

    config: EngineConfig
    checkpoint: Checkpoint
    encoder: TextEncoder
    policy: ExitPolicy
    model: Elbert

    @classmethod
    def load(cls, config: EngineConfig) -> "Engine":
        """Read, check and prepare the model.

        Raises ModelError for the folder and ConfigError for the settings.
        """
        config = _resolved(config)
        checkpoint = load(BUNDLED_FOLDER if config.model == BUNDLED else Path(config.model))
        policy = _policy(config, checkpoint)
        encoder = _encoder(config, checkpoint)
        dtype: torch.dtype = torch.float32 if config.dtype == "int8" else getattr(torch, config.dtype)
        layer = EightBits(config.deterministic) if config.dtype == "int8" else None
        tensors = {name: tensor.to(dtype) for name, tensor in checkpoint.tensors.items()}
        # Beside a resident loop the CPU model only computes expected results, so it need not be bit-stable.
        maps = linears(False, "plain") if config.runner == "resident" else linears(config.deterministic)
        model = Elbert(checkpoint.config, tensors, _temperature(checkpoint), maps, layer)
        return cls(config, checkpoint, encoder, policy, model)

    def runner(self) -> Runner:
        """Return a new, empty runner over the shared weights.

        Raises ConfigError where deterministic mode was requested of a resident loop and does not hold on this device.
        """
        if self.config.runner == "reference":
            return Reference(self.model, self.policy, self.temperatures)
        if self.config.runner == "resident":
            return self._loop(self._resident.tiles)
        config = self.config
        return Packed(self.model, self.policy, config.slots, config.token_budget, self.temperatures)

    def alone(self) -> Runner:
        """Return a new runner for one text at a time, to repeat a failed step."""
        if self.config.runner == "resident":
            return self.runner()
        return Reference(self.model, self.policy, self.temperatures)

    @property
    def slots(self) -> int:
        """Largest number of texts in the model at once."""
        return self._tiers[-1].slots if self.config.runner == "resident" else self.config.slots

    @property
    def in_flight(self) -> int:
        """Number of texts in flight that keeps a runner busy; a resident loop reads ahead."""
        return 4 * self.slots if self.config.runner == "resident" else self.slots

    @property
    def model_id(self) -> str:
        return self.checkpoint.id

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the weights file."""
        return self.checkpoint.sha256

    @property
    def profile(self) -> str:
        return self.encoder.profile.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of a verdict's probabilities: negative, neutral, positive."""
        return LABELS

    @property
    def calibrated(self) -> bool:
        """Whether a temperature was fitted, so that a confidence is a frequency."""
        manifest = self.checkpoint.manifest
        return fitted_for(manifest, self.policy) or (manifest is not None and manifest.temperature is not None)

    @property
    def rungs(self) -> tuple[str, ...]:
        """Policies of a load-following one, by Verdict.rung; empty for any other."""
        return tuple(rung.spec for rung in self.policy.rungs) if isinstance(self.policy, Ladder) else ()

    @property
    def certificate(self) -> str | None:
        """What the manifest promises of this policy, in words; None: nothing."""
        certificate = (self.checkpoint.manifest and self.checkpoint.manifest.certificate) or {}
        if certificate.get("policy") != self.policy.spec:
            return None
        return f"at most {certificate['max_lost']:.2%} lost at {certificate['confidence']:.0%} confidence"

    @cached_property
    def temperatures(self) -> Tensor | None:
        """Temperatures of reported probabilities, (R, D), see engine.temperatures."""
        return temperatures_of(self.checkpoint.manifest, self.policy)

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the training languages; empty: not known."""
        return self.checkpoint.manifest.languages if self.checkpoint.manifest else ()

    @property
    def max_layers(self) -> int:
        return self.checkpoint.config.layers

    @property
    def max_tokens(self) -> int:
        """Token limit of a text, special tokens included."""
        return self.encoder.max_tokens

    @property
    def knowledge_until_us(self) -> int | None:
        """Latest instant of the training data, in microseconds; None: not known.

        A backtest before this instant has look-ahead bias.
        """
        return self.checkpoint.manifest.knowledge_until_us if self.checkpoint.manifest else None

    @property
    def dtype(self) -> str:
        return self.config.dtype

    @property
    def device(self) -> str:
        """Device of the runner: cpu or cuda."""
        return self.config.device

    @cached_property
    def config_hash(self) -> str:
        """16 hex digits over everything except weights that changes a verdict in exact arithmetic."""
        parts = {
            **self.encoder.describe(),
            "policy": self.policy.spec,
            "temperature": repr(self.model.temperature),
            "labels": self.labels,
            "geometry": hashed_geometry(self.checkpoint.config),
        }
        if self.temperatures is not None:  # left out by default, so that recorded hashes stay
            parts["temperatures"] = [repr(value) for value in self.temperatures.flatten().tolist()]
        return config_hash(parts)

    @cached_property
    def numerics(self) -> str:
        """Fingerprint of the arithmetic, see engine.numerics; computed at first use from built-in probes.

        A resident loop runs the probes through every tier. Raises ConfigError, see `runner`.
        """
        return self._resident.numerics if self.config.runner == "resident" else numerics(self.model)

    @property
    def tiles(self) -> str | None:
        """Tile kind of a resident loop, see engine.device.tiling; None if not deterministic or not resident."""
        return self._resident.kind if self.config.runner == "resident" else None

    @cached_property
    def _tiers(self) -> tuple[Tier, ...]:
        on_cpu = ((self.config.slots, self.config.token_budget, 1),)
        tiers = self.config.tiers or (CUDA_TIERS if self.config.device == "cuda" else on_cpu)
        return tuple(Tier(*tier) for tier in tiers)

    @cached_property
    def _resident(self) -> "_Resident":
        if self.config.deterministic:
            return _Resident(*steady(self._loop, self._tiers))
        loop = self._loop(None)
        return _Resident(None, None, fingerprint(loop, probe_outputs(loop, self._tiers)))

    def _loop(self, tiles: Tiles | None) -> Resident:
        """Return a new resident loop."""
        device: Device = Immediate()
        if self._where.type == "cuda":
            device = CudaDevice(self._where, self.config.compile, self.config.deterministic)
        config, temperature = self.checkpoint.config, self.model.temperature
        model = StaticElbert(config, self._tensors_there, temperature, tiles, self.max_tokens)
        return Resident(model, self.policy, self._tiers, device, temperatures=self.temperatures)

    @cached_property
    def _tensors_there(self) -> dict[str, Tensor]:
        """The weights on the resident loop's device, shared by its runners."""
        return {name: tensor.to(self._where) for name, tensor in self.model.tensors.items()}

    @property
    def _where(self) -> torch.device:
        return torch.device("cuda:0" if self.config.device == "cuda" else "cpu")


class _Resident(NamedTuple):
    """How this engine's resident loops compute: tiles and numerics."""

    kind: str | None
    tiles: Tiles | None
    numerics: str


def _resolved(config: EngineConfig) -> EngineConfig:
    """Resolve every `auto`, so that one configuration serves hosts with and without a GPU.

    Drops settings that only a resident loop or CUDA has where `auto` found none.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise ConfigError(f"device: no CUDA device is usable here, torch was {torch.__version__}")
    runner, device = config.runner, config.device
    if device == "auto":
        device = "cuda" if cuda and runner in ("auto", "resident") and config.dtype != "int8" else "cpu"
    if runner == "auto":
        runner = "resident" if device == "cuda" else "packed"
    tiers = config.tiers if runner == "resident" else None
    return dataclasses.replace(
        config, runner=runner, device=device, tiers=tiers, compile=config.compile and device == "cuda"
    )


def _policy(config: EngineConfig, checkpoint: Checkpoint) -> ExitPolicy:
    manifest = checkpoint.manifest
    spec = config.policy or (manifest.policy if manifest else "full")
    policy = parse(spec, checkpoint.config.layers, learned_exits=checkpoint.config.learned_exits != "none")
    if policy.spec != "full" and not (manifest and manifest.trained_for_exits):
        raise NotTrainedForExits(
            f"{checkpoint.id}: exit policy {spec!r} needs a model whose every depth was trained to answer; "
            f"{'its manifest says it was not' if manifest else 'it has no manifest that says so'}. Use 'full'"
        )
    return policy


def _encoder(config: EngineConfig, checkpoint: Checkpoint) -> TextEncoder:
    manifest, positions = checkpoint.manifest, checkpoint.config.max_positions
    max_tokens = config.max_tokens or (manifest.max_tokens if manifest else positions)
    if max_tokens > positions:
        raise ConfigError(f"max_tokens: {checkpoint.id} has {positions} positions, was {max_tokens}")
    cleaning, rule = PROFILE_WITHOUT_MANIFEST, ASSEMBLY_WITHOUT_MANIFEST
    if manifest:
        cleaning, rule = manifest.profile.name, str(manifest.assembly["name"])
    return TextEncoder(profile(cleaning), assembly(rule), checkpoint.tokenizer, max_tokens)


def _temperature(checkpoint: Checkpoint) -> float:
    return (checkpoint.manifest and checkpoint.manifest.temperature) or 1.0
