# Two commands matter: `make demo` shows the stage at work, `make test` proves it. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q --durations=5
NO_HURRY := -o faulthandler_timeout=0  # tests of an hour
SIDE_BY_SIDE := -n 2 --dist worksteal
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c $(VENV)/constraints.txt
SHELL := bash

.PHONY: setup setup-all demo test lint types unit coverage broker faults chaos-short fuzz chaos kafka kafka-stop docs system-deps \
        deploy-tools test-deploy wheelhouse image clean

# What the stage needs; and what its tests, benches and optional parts need besides.
setup: $(VENV)/.ready
setup-all: $(VENV)/.ready-all

# A torch that is already in the environment is kept, whatever build it is: then torch and what only its CUDA build
# needs are taken off the constraints.
$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "earlybird needs Python 3.11 or newer; try: make PYTHON=python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then grep -v -E '^(torch|triton|nvidia-|cuda-)' constraints.txt; \
	  else cat constraints.txt; echo "installing torch (several GB with CUDA) ..." >&2; fi > $(VENV)/constraints.txt
	$(INSTALL) -e '.[engine,stream]'
	@touch $@

$(VENV)/.ready-all: $(VENV)/.ready
	$(INSTALL) -e '.[engine,stream,traces,registry,views,pull,strategies,nautilus,backtrader,bench,evaluate,docs,dev]'
	@touch $@

demo: setup
	$(BIN)/earlybird demo --once

# Each part is timed, so that the whole stays under 30 minutes on 2 cores. Tests run two at a time, since most wait for
# processes and brokers more than they compute.
test: setup-all
	@set -e; for part in lint types unit broker faults; do \
	  start=$$SECONDS; $(MAKE) --no-print-directory $$part; echo "== $$part: $$((SECONDS - start)) s"; done

lint: setup-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: setup-all
	$(BIN)/mypy
	$(BIN)/mypy tests

unit: setup-all
	$(PYTEST) $(SIDE_BY_SIDE) -m "not broker and not faults and not deploy and not image"

# The unit part once more, traced: on its own, since tracing costs time.
coverage: setup-all
	$(PYTEST) $(SIDE_BY_SIDE) -m "not broker and not faults and not deploy and not image" --cov --cov-report=term:skip-covered

broker: setup-all
	$(PYTEST) $(SIDE_BY_SIDE) -m "broker and not faults"

# With the short form of chaos: one fault of each kind and delivery under load, fixed seeds.
faults: setup-all
	$(PYTEST) $(SIDE_BY_SIDE) -m faults

# A million odd inputs through each parser; `make unit` runs the short form. EARLYBIRD_FUZZ_SEED=2 makes other inputs.
fuzz: setup-all
	EARLYBIRD_FUZZ=1000000 $(PYTEST) $(NO_HURRY) $(SIDE_BY_SIDE) tests/fuzz

# The short form of `make chaos` alone; `make faults` runs it, too.
chaos-short: setup-all
	$(PYTEST) $(SIDE_BY_SIDE) -m chaos

# Hundreds of faults under load, each counted: an hour and a half. See docs/faults.md.
chaos: setup-all
	PYTHONPATH=tests/support:deploy/kafka $(BIN)/python -m tests.chaos --json var/chaos.json $(CHAOS)

# A real Apache Kafka on 127.0.0.1:9092, without Docker: Java 17 and Maven are all it needs.
kafka: setup
	$(BIN)/python deploy/kafka/local.py start

kafka-stop: setup
	$(BIN)/python deploy/kafka/local.py stop

# The documentation as pages, in var/site. Its generated parts come from the code.
docs: setup-all
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --quiet

system-deps:
	apt-get update && apt-get install -y --no-install-recommends openjdk-17-jre-headless maven

# What is in deploy/, against the tools that will read it: Prometheus, kustomize, schemas of Kubernetes, KEDA and Compose.
# Not a part of `make test`: deploy-tools installs Debian packages as root. Tests that lack a tool are skipped aloud.
deploy-tools:
	bash deploy/tools.sh

test-deploy: setup-all deploy-tools
	$(INSTALL) -e '.[deploy]'
	$(PYTEST) -m deploy tests/deploy

# Builds the images without a network and runs them: root, buildah, 20 GB of disk and half an hour are needed.
# IMAGES="client cpu gpu" adds the GPU's, and as much again.
IMAGES ?= client cpu

wheelhouse: setup
	@set -e; for image in $(IMAGES); do PYTHON=$(BIN)/python bash deploy/image/wheelhouse.sh $$image; done

image: setup-all deploy-tools wheelhouse
	$(PYTEST) $(NO_HURRY) -m image tests/deploy

clean:
	rm -rf var build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
