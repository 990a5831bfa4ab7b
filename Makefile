# Everything is installed into .venv of this checkout; nothing system-wide.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
export UV_LINK_MODE ?= hardlink
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help up install test check generate baseline lock format

help: ## Shows this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv verifies the hashes that the lock file states for what it installs.
$(UV): requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint requirements.lock uv
	@touch $(UV)

$(VENV)/.up: $(UV) pyproject.toml requirements.lock
	@echo "installing Switchboard into $(VENV) ..."
	@$(UV) pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[server,embedded]'
	@touch $@

$(VENV)/.dev: $(UV) pyproject.toml requirements.lock
	@echo "installing Switchboard and its development tools into $(VENV) ..."
	@$(UV) pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[server,embedded,dev]'
	@touch $@ $(VENV)/.up

install: $(VENV)/.dev ## Installs everything, development tools included

generate: $(VENV)/.dev ## Regenerates generated/ from protos/
	@$(BIN)/python protos/generate.py

baseline: $(VENV)/.dev ## Records the contract of a release, which buf breaking compares with
	@$(BIN)/python protos/generate.py --baseline

lock: $(UV) ## Writes requirements.lock anew from pyproject.toml
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras pyproject.toml --output-file requirements.lock

format: $(VENV)/.dev ## Formats Python and protos
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format --quiet . ; $(BIN)/buf format -w protos
