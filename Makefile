# One command per verb. `make test` on a fresh machine is all that it takes.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# Without a GPU torch must come by its CPU pin; with one, the machine's newest is wanted.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints-cpu.txt)

.PHONY: help test test-all bench check fix compat wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip
	$(RUN)/python -m pip install --quiet $(CONSTRAINTS) --editable ".[dev]"
	touch $@

test: $(VENV)/installed ## install what is needed and run the tests
	$(RUN)/pytest -n 2 -m "not slow"

test-all: $(VENV)/installed ## the slow tests too
	$(RUN)/pytest -n 2

bench: $(VENV)/installed ## measure speed; figures, not tests
	$(RUN)/python tests/bench_scaling.py

check: $(VENV)/installed ## lint, type-check, and verify generated files
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/python docs/generate.py --check

fix: $(VENV)/installed ## repair what can be repaired
	$(RUN)/ruff check --fix
	$(RUN)/ruff format
	$(RUN)/python docs/generate.py

clean: ## remove environments and caches
	rm -rf .venv* .compat build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
