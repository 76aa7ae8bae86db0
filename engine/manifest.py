"""The manifest.json of a model folder; a model that differs from it refuses to start."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError, ManifestMismatch, NotAModel
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.profiles import profile
from earlybird.schemas.base import EpochUs
from earlybird.schemas.codec import describe
from earlybird.schemas.signal import Label

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
LABELS = tuple(str(label) for label in Label)
"""The order of a verdict's probabilities, independent of the order in the weights."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TextProfile(_Part):
    """The text cleaning that the weights were trained with."""

    name: str
    hash: Sha256


class Ingredient(_Part):
    """A source of the weights, with its licence terms."""

    name: str
    use: str
    licence: str
    sha256: str | None = None  # of the file, of a folder's files by name, or of texts; None: not known


class DepthTemperatures(_Part):
    """Temperatures of the reported probabilities by exit depth, fitted for one policy's exits."""

    policy: str
    values: tuple[Annotated[float, Field(gt=0)], ...]  # divide the logits that exit there; 1 leaves them as they are
    texts: Annotated[int, Field(ge=1)]
    texts_sha256: str


class Manifest(_Part):
    """Everything about a model that its tensors do not hold.

    An unknown field is an error: it may matter.
    """

    format: Literal["earlybird-model/1"] = "earlybird-model/1"
    id: Annotated[str, Field(min_length=1)]
    geometry: ModelConfig
    labels: tuple[str, ...]  # in the order of the classifier's rows
    trained_for_exits: bool  # every depth was trained to answer, not only the last
    policy: str  # exit policy, unless the configuration names another
    temperature: Annotated[float, Field(gt=0)] | None  # divides the logits; null: never calibrated
    profile: TextProfile
    assembly: dict[str, str | int]
    tokenizer_sha256: Sha256
    weights_sha256: Sha256
    max_tokens: Annotated[int, Field(ge=3)]
    languages: tuple[str, ...]
    knowledge_until_us: EpochUs | None  # latest instant of its training data
    licence: str
    ingredients: tuple[Ingredient, ...]
    strategy: str | None = None  # training strategy, see engine.training.strategies
    loss_weights: tuple[float, ...] | None = None  # one per exit, ELBERT's equation 2
    certificate: dict[str, str | int | float] | None = None  # of `policy`: engine.evaluation.calibrate.Certificate
    temperatures: tuple[DepthTemperatures, ...] = ()  # at most one per policy; other policies report as they decide

    @field_validator("geometry", mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        known = {each.name for each in dataclasses.fields(ModelConfig)}
        if isinstance(value, dict) and (unknown := sorted(set(value) - known)):
            raise ValueError(f"unknown field {unknown[0]!r}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.max_tokens > self.geometry.max_positions:
            raise ValueError(f"max_tokens: at most {self.geometry.max_positions} positions, was {self.max_tokens}")
        canonical_rows(self.labels, self.geometry.n_labels)
        for each in self.temperatures:
            if len(each.values) != self.geometry.layers:
                raise ValueError(f"temperatures: {self.geometry.layers} values required, was {len(each.values)}")
        if len({each.policy for each in self.temperatures}) < len(self.temperatures):
            raise ValueError("temperatures: one entry per policy required, was a policy twice")
        return self


def read(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises NotAModel (missing or unreadable) and ManifestMismatch (not this format).
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotAModel(f"{path}: cannot be read, {error.strerror}") from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ManifestMismatch(f"{path}: {describe(error)}") from None
    except ConfigError as error:
        raise ManifestMismatch(f"{path}: geometry: {error}") from None


def check_text(manifest: Manifest, tokenizer_sha256: str) -> None:
    """Check that text is read as in training; raises ManifestMismatch."""
    try:
        ours, rule = profile(manifest.profile.name), assembly(str(manifest.assembly.get("name")))
    except ConfigError as error:
        raise ManifestMismatch(f"{manifest.id}: {error}") from None
    _same(f"{manifest.id}: hash of text profile {ours.name}", ours.hash, manifest.profile.hash)
    _same(f"{manifest.id}: assembly rule {rule.name}", rule.describe(), manifest.assembly)
    _same(f"{manifest.id}: sha256 of tokenizer.json", tokenizer_sha256, manifest.tokenizer_sha256)


def check_weights(manifest: Manifest, weights_sha256: str) -> None:
    """Check the hash of the weights file; raises ManifestMismatch."""
    _same(f"{manifest.id}: sha256 of {WEIGHTS}", weights_sha256, manifest.weights_sha256)


def canonical_rows(labels: tuple[str, ...], n_labels: int) -> list[int]:
    """Return the classifier row of each label in LABELS order.

    Raises ValueError unless the labels are exactly those of LABELS.
    """
    if sorted(labels) != sorted(LABELS) or len(labels) != n_labels:
        raise ValueError(f"labels: {', '.join(LABELS)} in any order required, was {list(labels)}")
    return [labels.index(label) for label in LABELS]


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 as 64 hex digits; raises NotAModel if unreadable."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise NotAModel(f"{path}: cannot be read, {error.strerror}") from None


def _same(what: str, found: object, promised: object) -> None:
    if found != promised:
        raise ManifestMismatch(f"{what}: the manifest says {promised}, was {found}")
