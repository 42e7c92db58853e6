# Every command sets itself up: an environment in .venv from pinned, hashed packages.
.DEFAULT_GOAL := help
.PHONY: help demo test simulate mutants crashpoints chaos bench capacity lint alerts image generated docs sbom audit lock clean

# The first interpreter that is new enough. Set PYTHON to choose another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUN_STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev

help: ## Show this help.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

demo: $(RUN_STAMP) ## The main job on real mail, from nothing.
	@exec $(BIN)/byok demo

test: $(DEV_STAMP) ## All tests, against real Valkey and SQLite and the real SDKs over HTTP.
	@exec $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)

simulate: $(DEV_STAMP) ## Generated histories: SEED=7 prints one, SEEDS=1000000 FIRST=0 JOBS=4 runs many; ARGS=--flooded floods them.
	@exec $(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0) $(if $(JOBS),--jobs $(JOBS))) $(ARGS)

crashpoints: $(DEV_STAMP) ## End a worker and a scheduler at each boundary; ARGS="sqlite-valkey" for those services only.
	@exec $(BIN)/python -m tests.crashpoints $(ARGS)

chaos: $(DEV_STAMP) ## Faults in real processes from SEED=1 for MINUTES=10, then the audit; DATABASE=sqlite for SQLite.
	@exec $(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10) \
		$(if $(DATABASE),--database $(DATABASE)) $(ARGS)

mutants: $(DEV_STAMP) ## Remove the answer to each trap of the queue: a test must fail for each.
	@exec $(BIN)/python -m tests.mutants $(ARGS)

bench: .venv/.installed-bench ## Benchmarks next to their limits and peers, in one run (minutes).
	@exec $(BIN)/python -m tests.benchmarks $(ARGS)

capacity: $(DEV_STAMP) ## What an analysis costs besides time, for docs/capacity.md.
	@exec $(BIN)/python -m tests.benchmarks.capacity $(ARGS)
	@exec $(BIN)/python -m tests.benchmarks.capacity_page

lint: $(DEV_STAMP) ## Style, types and the allowed imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

alerts: $(DEV_STAMP) ## A live system under a real Prometheus: every fault, and which alerts fired (minutes).
	$(BIN)/python -m pytest -s -m "long or not long" tests/integration/live $(ARGS)

image: $(DEV_STAMP) ## Build the Dockerfile with buildah, and run the image (root; minutes).
	@exec $(BIN)/python -m pytest -s -m "long or not long" tests/integration/deploy/test_image.py $(ARGS)

generated: $(DEV_STAMP) ## Write generated files again: metrics, rules, dashboards, contracts, references.
	$(BIN)/python -m metrics.document
	$(BIN)/python -m deploy.prometheus.rules
	$(BIN)/python -m deploy.grafana.build
	$(BIN)/byok contract write
	$(BIN)/python -m events.contract.reference
	$(BIN)/python -m workers.configuration
	$(BIN)/python -m workers.cli.reference
	$(BIN)/python -m tests.benchmarks.capacity_page

docs: $(DEV_STAMP) ## The documentation as a site, in dist/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

sbom: $(DEV_STAMP) ## The image's bill of materials (CycloneDX), from its lock.
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --sv 1.6 --output-reproducible --pyproject pyproject.toml \
		--mc-type application -o dist/byok-workers.cdx.json requirements-image.lock

audit: $(DEV_STAMP) ## Known vulnerabilities of the image (needs the advisory service).
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements-image.lock

lock: $(DEV_STAMP) ## Pin the newest allowed versions with their hashes (needs uv).
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q -o requirements.lock
	uv pip compile pyproject.toml --extra build --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q -o requirements-dev.lock
	uv pip compile pyproject.toml --extra build --extra kms --extra otel --universal --python-version 3.11 \
		--upgrade -c requirements-dev.lock \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q -o requirements-image.lock
	uv pip compile pyproject.toml --extra build --extra dev --extra peers --extra pictures \
		--universal --python-version 3.11 --upgrade -c requirements-dev.lock \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q -o requirements-bench.lock

clean: ## Remove the environment and everything embedded.
	rm -rf .venv .byok

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with the venv module is needed: install it, or name it with PYTHON=…"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

$(RUN_STAMP): requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing pinned packages"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): requirements-dev.lock pyproject.toml | .venv/bin/python
	@echo "Installing pinned packages, with those for development"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(RUN_STAMP)

.venv/.installed-bench: requirements-bench.lock pyproject.toml | .venv/bin/python
	@echo "Installing pinned packages, with those that are measured beside"
	@$(PIP) install --require-hashes -r requirements-bench.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(RUN_STAMP)
