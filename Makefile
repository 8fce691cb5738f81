# Everything here needs only Python 3.11 or later, bash, make and the package index that pip is set up for.
# Each target sets up .venv first: what the lock pins when the lock changed, the project itself when
# pyproject.toml changed, nothing otherwise.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Searched for only where a recipe needs it; PYTHON=... names another one.
PYTHON ?=
BASE_PYTHON = $(or $(shell tools/find-python $(PYTHON)),$(error $(if $(PYTHON),$(PYTHON) is not a,there is no) \
	Python 3.11 or later with venv and ensurepip; name one: make PYTHON=/path/to/python))

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PYTEST_ARGS ?= --numprocesses auto --dist loadgroup # tests of a group, as those of the browser, share a process
ATTACK_ARGS ?=

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A half-built .venv has no stamp, so the next call starts it afresh.
$(VENV)/.locked: requirements-dev.lock
	@python=$(BASE_PYTHON); echo "== installing $< into $(VENV), with $$($$python --version) ($$python)"; \
		$$python -m venv --clear $(VENV)
	$(PIP_INSTALL) --require-hashes --requirement $<
	$(BIN)/python -m pip check
	@touch $@

$(STAMP): $(VENV)/.locked pyproject.toml
	@echo "== installing the project into $(VENV)"
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(STAMP) ## Create .venv with everything pinned by the lock

.PHONY: run
run: $(STAMP) ## Migrate the database and serve; settings come from HUGEPOOL_* variables
	$(BIN)/hugepool serve

.PHONY: test
test: $(STAMP) ## Run the tests; PYTEST_ARGS replaces the options
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## Linter, formatter, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict app/hugepool tools/kernel-oracle tests
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(STAMP) ## Format, and fix what the linter can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: check
check: lint ## The one gate: lint, the OpenAPI file, every test
	$(BIN)/python -m hugepool.openapi --check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: openapi
openapi: $(STAMP) ## Write openapi/openapi.json anew
	$(BIN)/python -m hugepool.openapi

.PHONY: tools
tools: ## Install linters and generators for openapi.json, which tests run; needs npm
	PYTHON="$(BASE_PYTHON)" tools/openapi/install

.PHONY: bench
bench: $(STAMP) ## Measure the cost budgets
	$(BIN)/python -m tests.bench

.PHONY: soak
soak: $(STAMP) ## Run random commands and check every law after each; bounded
	$(BIN)/python -m tests.soak

.PHONY: oracle
oracle: $(STAMP) ## Ask a real kernel: ARGS="random --seed 7 --kernel 6.12 -o seed7.json.gz"; docs/oracle.md
	$(BIN)/python tools/kernel-oracle $(ARGS)

TRACES ?= tests/data/traces
.PHONY: fidelity
fidelity: $(STAMP) ## Replay all recordings of TRACES (a folder) and write docs/fidelity.md
	$(BIN)/python -m hugepool.replay.fidelity $(TRACES)

.PHONY: attack
attack: $(STAMP) ## Attack the service in every way; bounded, loopback only; ATTACK_ARGS picks some
	$(BIN)/python -m tests.attack $(ATTACK_ARGS)

# The locks name no index: pip takes the files from wherever it is set up to, and the hashes hold.
LOCK := $(VENV)-lock/bin/uv pip compile pyproject.toml --quiet --no-python-downloads --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra server --extra mount \
	--extra postgres $(LOCK_ARGS)

.PHONY: lock
lock: ## Write both locks from pyproject.toml; LOCK_ARGS=--upgrade takes newer versions
	$(BASE_PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) --group build --output-file requirements.lock
	$(LOCK) --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock
	rm -rf $(VENV)-lock
	@! grep -nE '://|--(extra-)?index-url|--find-links|--trusted-host' requirements.lock requirements-dev.lock \
		|| { echo 'a lock names an address' >&2; exit 1; }

.PHONY: clean
clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
