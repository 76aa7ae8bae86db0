"""Exit policies by name, as settings and manifests spell them."""

import re

from engine.errors import ConfigError
from engine.exits.cwb import ConfidenceWindow
from engine.exits.fixed import FixedDepth, FullDepth
from engine.exits.policy import ExitPolicy

GRAMMAR = "cwb:delta=NUMBER,window=COUNT | fixed:LAYER | full"

_CWB = re.compile(r"cwb:delta=((?:\d+\.?\d*|\.\d+)(?:e-?\d+)?),window=(\d{1,4})", re.ASCII)
_FIXED = re.compile(r"fixed:(\d{1,4})", re.ASCII)


def parse(spec: str, max_layers: int) -> ExitPolicy:
    """The policy a spec names, checked against the model's depth. `policy.spec` is the canonical spelling: equal
    policies have equal specs (`fixed:N` at the model's depth N is `full`). Raises ConfigError."""
    if spec == "full":
        return FullDepth()
    if match := _FIXED.fullmatch(spec):
        layer = int(match[1])
        if layer > max_layers:
            raise ConfigError(f"exit policy {spec!r}: the model has {max_layers} layers, was {layer}")
        return FullDepth() if layer == max_layers else FixedDepth(layer)
    if match := _CWB.fullmatch(spec):
        policy = ConfidenceWindow(float(match[1]), int(match[2]))
        if policy.window > max_layers:
            raise ConfigError(
                f"exit policy {spec!r}: a window over {policy.window} outputs never fills in {max_layers} layers"
            )
        return policy
    raise ConfigError(f"exit policy: {GRAMMAR} required, was {spec!r}")
