#!/usr/bin/env bash
# What `make test-deploy` and `make image` need besides Python: Debian's packages (as root), and from Go modules
# kustomize and the schemas of KEDA's and the Prometheus operator's objects, into var/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

KUSTOMIZE=v5.8.1
KEDA=github.com/kedacore/keda/v2@v2.21.0
OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.91.0
TOOLS="$PWD/var/tools"
mkdir -p "$TOOLS"

if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  missing=()
  for package in prometheus buildah mmdebstrap chromium; do command -v "$package" > /dev/null || missing+=("$package"); done
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  fi
fi

if command -v go > /dev/null; then
  [ -x "$TOOLS/kustomize" ] || GOBIN="$TOOLS" go install "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE"
  folder() { (cd "$(mktemp -d)" && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'; }
  if [ ! -e "$TOOLS/prometheusrule.yaml" ]; then
    keda=$(folder "$KEDA")
    operator=$(folder "$OPERATOR")/example/prometheus-operator-crd
    install -m 644 "$keda/config/crd/bases/keda.sh_scaledobjects.yaml" "$TOOLS/scaledobject.yaml"
    install -m 644 "$keda/pkg/scalers/prometheus_scaler.go" "$TOOLS/prometheus_scaler.go"
    install -m 644 "$operator/monitoring.coreos.com_servicemonitors.yaml" "$TOOLS/servicemonitor.yaml"
    install -m 644 "$operator/monitoring.coreos.com_prometheusrules.yaml" "$TOOLS/prometheusrule.yaml"
  fi
else
  echo "no go on PATH: the tests of the Kubernetes manifests will be skipped" >&2
fi
