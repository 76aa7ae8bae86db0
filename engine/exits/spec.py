"""Exit policies as text in settings and manifests: `family:key=value,...`, `fixed:N`, `full`, `a|b`, `load:...`."""

import dataclasses
import difflib
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.any_of import AnyOf
from earlybird.engine.exits.cwb import ConfidenceWindow
from earlybird.engine.exits.fixed import FixedDepth, FullDepth
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.patience import Patience
from earlybird.engine.exits.policy import ExitPolicy
from earlybird.engine.exits.similarity import Similarity
from earlybird.engine.exits.threshold import Entropy, LearnedExit, MaxProbability

FAMILIES: dict[str, Any] = {
    family.FAMILY: family for family in (ConfidenceWindow, Entropy, MaxProbability, Patience, LearnedExit, Similarity)
}
"""Policy families by name; a family's parameters are the fields of its dataclass."""

LOAD = "load:"
_NUMBERS = {float: re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?", re.ASCII), int: re.compile(r"\d{1,4}", re.ASCII)}


def parse(spec: str, layers: int, *, learned_exits: bool = False) -> ExitPolicy:
    """Parse a spec and check it against a model of `layers` layers.

    `learned_exits`: the model has learned-exit heads.

    `policy.spec` is the canonical spelling: equal policies have equal specs (`fixed:N` at the model's depth N is
    `full`). Raises ConfigError for a spec that is malformed, that could never decide anything in this model, or that
    needs heads which the model lacks.
    """
    if spec.startswith(LOAD):
        return _ladder(spec, layers, learned_exits)
    if LOAD in spec:
        raise ConfigError(f"exit policy {spec!r}: load: stands alone, not beside | or inside another load:")
    names = spec.split("|")
    policies = [_parse_one(name, spec) for name in names]
    for policy in policies:
        _check(policy, spec, layers, learned_exits)
    if len(policies) > 1:
        if any(policy.earliest is None for policy in policies):
            raise ConfigError(f"exit policy {spec!r}: rules that can exit required on both sides of |, was 'full'")
        return AnyOf(tuple(policies))
    (policy,) = policies
    return FullDepth() if policy == FixedDepth(layers) else policy


def never_early(policy: ExitPolicy, layers: int) -> bool:
    """Return whether a policy other than `full` never exits before the last layer."""
    return policy.spec != "full" and (policy.earliest is None or policy.earliest >= layers)


def grammar() -> str:
    """List the accepted forms in one line."""
    forms = [
        f"{name}:" + ",".join(f"{field.name}={_form(hints[field.name])}" for field in dataclasses.fields(family))
        for name, family in FAMILIES.items()
        for hints in [get_type_hints(family)]
    ]
    return " | ".join([*forms, "fixed:LAYER", "full", "load:idle=(POLICY),busy=(POLICY),at=COUNT"])


def _ladder(spec: str, layers: int, learned_exits: bool) -> Ladder:
    """Parse `load:idle=(POLICY),busy=(POLICY),at=COUNT`, with a busy and an at for each further rung."""
    if spec.count(LOAD) > 1:
        raise ConfigError(f"exit policy {spec!r}: load: stands alone, not beside | or inside another load:")
    policies: dict[str, list[ExitPolicy]] = {"idle": [], "busy": []}
    at: list[int] = []
    for part in _parts(spec.removeprefix(LOAD), spec):
        key, _, text = part.partition("=")
        if key in policies and re.fullmatch(r"\([^()]+\)", text):
            policies[key].append(parse(text[1:-1], layers, learned_exits=learned_exits))
        elif key == "at" and re.fullmatch(r"\d{1,7}", text, re.ASCII):
            at.append(int(text))
        else:
            raise ConfigError(f"exit policy {spec!r}: idle=(POLICY), busy=(POLICY) or at=COUNT required, was {part!r}")
    if len(policies["idle"]) != 1 or not at or len(at) != len(policies["busy"]):
        raise ConfigError(f"exit policy {spec!r}: idle= once, and an at= for each busy= required")
    return Ladder((*policies["idle"], *policies["busy"]), tuple(at))


def _parts(text: str, spec: str) -> list[str]:
    """Split at the commas that are in no parentheses; policies hold commas of their own."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ConfigError(f"exit policy {spec!r}: a closing for each opening parenthesis required")
    return parts


def _parse_one(name: str, spec: str) -> ExitPolicy:
    if name == "full":
        return FullDepth()
    family, colon, rest = name.partition(":")
    if family == "fixed" and colon and _NUMBERS[int].fullmatch(rest):
        return FixedDepth(int(rest))
    if family not in FAMILIES or not rest:
        raise ConfigError(f"exit policy: {grammar()} required, was {spec!r}")
    return _build(FAMILIES[family], rest, spec)


def _build(family: Any, rest: str, spec: str) -> ExitPolicy:
    hints = get_type_hints(family)
    fields = {field.name: field for field in dataclasses.fields(family)}
    values: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, text = part.partition("=")
        if equals and key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise ConfigError(f"exit policy {spec!r}: no parameter {key!r}; {hint}")
        if not equals or key in values:
            raise ConfigError(f"exit policy {spec!r}: each of {', '.join(fields)} at most once required, was {part!r}")
        values[key] = _value(text, hints[key], key, spec)
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - values.keys()):
        raise ConfigError(f"exit policy {spec!r}: {', '.join(missing)} required, was {rest!r}")
    policy: ExitPolicy = family(**values)
    return policy


def _value(text: str, kind: Any, key: str, spec: str) -> Any:
    if get_origin(kind) is Literal:
        if text in get_args(kind):
            return text
    elif _NUMBERS[kind].fullmatch(text):
        return kind(text)
    raise ConfigError(f"exit policy {spec!r}: {key}={_form(kind)} required, was {text!r}")


def _form(kind: Any) -> str:
    return "|".join(get_args(kind)) if get_origin(kind) is Literal else {float: "NUMBER", int: "COUNT"}[kind]


def _check(policy: ExitPolicy, spec: str, layers: int, learned_exits: bool) -> None:
    if policy.needs_certainty and not learned_exits:
        raise ConfigError(f"exit policy {spec!r}: a model with learned-exit heads required, was one without")
    if isinstance(policy, FixedDepth) and policy.layer > layers:
        raise ConfigError(f"exit policy {spec!r}: the model has {layers} layers, was {policy.layer}")
    fills = policy.window if isinstance(policy, ConfidenceWindow) else policy.earliest or 0
    if fills > layers:
        raise ConfigError(f"exit policy {spec!r}: {fills} outputs in a row never fills in {layers} layers")
