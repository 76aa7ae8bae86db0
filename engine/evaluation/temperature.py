"""Temperature of a model's outputs, fitted so that a confidence is a frequency.

Letters: n texts, D depth, C classes.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine import manifest as manifests
from earlybird.engine.manifest import MANIFEST

_TRIED = torch.logspace(-0.5, 0.5, 401, dtype=torch.float64)  # 0.32 to 3.2


def fit_temperature(logits: Tensor, label: Tensor) -> float:
    """Return the temperature with the least negative log-likelihood over all exits.

    From logits (n, D, C). Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    flat = logits.double().flatten(0, 1)
    repeated = label.repeat_interleave(logits.shape[1])
    losses = [float(F.cross_entropy(flat / value, repeated)) for value in _TRIED]
    return round(float(_TRIED[losses.index(min(losses))]), 3)


def write_temperature(folder: Path, factor: float) -> float:
    """Multiply the temperature in a model folder's manifest.

    A certificate of the old one is dropped. Returns the new temperature. Raises ManifestMismatch.
    """
    temperature = round((manifests.read(folder).temperature or 1.0) * factor, 3)
    path = folder / MANIFEST
    fields = json.loads(path.read_text("utf-8")) | {"temperature": temperature}
    fields.pop("certificate", None)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")
    new.replace(path)
    manifests.read(folder)
    return temperature
