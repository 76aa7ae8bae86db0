"""Storage of a certificate and of temperatures in a model folder's manifest."""

import dataclasses
import json
from pathlib import Path

from earlybird.engine import manifest as manifests
from earlybird.engine.errors import ManifestMismatch
from earlybird.engine.evaluation.calibrate import Certificate
from earlybird.engine.manifest import MANIFEST, DepthTemperatures


def write_certificate(folder: Path, certificate: Certificate, temperatures: DepthTemperatures | None = None) -> None:
    """Make the certified policy the model's own; keep its certificate and temperatures.

    Temperatures take the place of earlier ones of the same policy.

    Raises ManifestMismatch if the certificate belongs to other weights.
    """
    manifest = manifests.read(folder)
    if manifest.weights_sha256 != certificate.model_sha256:
        raise ManifestMismatch(f"{folder}: the certificate is of other weights, {certificate.model_sha256}")
    path = folder / MANIFEST
    fields = json.loads(path.read_text("utf-8"))
    fields |= {"policy": certificate.policy, "certificate": dataclasses.asdict(certificate)}
    if temperatures is not None:
        kept = [each for each in manifest.temperatures if each.policy != temperatures.policy]
        fields["temperatures"] = [each.model_dump(mode="json") for each in (*kept, temperatures)]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")
    new.replace(path)
    manifests.read(folder)
