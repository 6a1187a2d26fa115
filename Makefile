# One word per job. `make` alone lists them.

PY := .venv/bin/python
ARGS ?=
ONLY ?=
SEEDS ?= 200
SEED ?=
JOBS ?= 2

.PHONY: help setup env check test sim demo up down bench lock clean
.DEFAULT_GOAL := help

help:  ## Show these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: env  ## Install everything: Python environment, chain tools, container engine
	@.venv/bin/poolwright setup

env:
	@python3 tools/bootstrap.py

check: env  ## Format, lint, types, import rules, unit and property tests
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@$(PY) -m pytest -q tests/unit tests/property $(ARGS)

test: setup  ## Every test, with a real chain and real containers (JOBS=0: one after the other)
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

sim: env  ## Simulate a pool under faults (SEEDS=200, or SEED=17 for one)
	@$(PY) -m poolwright.devnet.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

demo: setup  ## Bring a network up and pay a worker for a real task
	@.venv/bin/poolwright demo $(ARGS)

up: setup  ## Start the local network (ARGS="--workers 3 --detach")
	@.venv/bin/poolwright up $(ARGS)

down: env  ## End the local network
	@.venv/bin/poolwright down $(ARGS)

bench: setup  ## Measure against the floors (ONLY=name for one)
	@$(PY) -m bench $(ONLY)

lock:  ## Renew locks/ from pyproject.toml (needs uv and the network)
	@tools/lock.sh $(ARGS)

clean:  ## End the network and remove everything made in this folder
	@if [ -x .venv/bin/poolwright ] && [ -d .poolwright ]; then .venv/bin/poolwright down; fi
	@rm -rf .poolwright .venv .venv-tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
