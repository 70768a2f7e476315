.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The demo keeps its warehouse, its Dagster instance and its simulated world here, apart from any real one.
DEMO_HOME ?= $(CURDIR)/.medscribe-demo
# One more than there are cores: a quarter of what the tests take is waiting.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# What `make bench` measures: sizes in notes, rounds (and those of sizes beyond 10 000), small or full sessions; INSTALL=1
# adds a fresh install, PUBLISH=1 puts what was found into bench/README.md, ONLY takes a regular expression of cases.
SIZES ?= 10000
ROUNDS ?= 5
LARGE_ROUNDS ?= 1
SESSIONS ?= small
BENCH := .venv-bench
# What `make scale-demo` is asked for: `python -m scale --help`.
SCALE_OPTIONS ?=
SCALE := .venv-scale

.PHONY: help demo demo-again demo-fresh ui test kill-matrix check check-deploy format docs bench scale-demo lock clean

help: ## Show what can be done
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The pip a Python brings may be years old, and take half as long again as the locked one to install the same. It gets that
# one here, without being unpacked here first, which takes seconds; where it cannot (before 22.3), or is not there, it is.
PIP_INSTALL := install --quiet --disable-pip-version-check
define environment
	@test -x $(1)/bin/python || $(PYTHON) -m venv --without-pip $(1)
	@$(1)/bin/python -m pip --version > /dev/null 2>&1 \
	  || $(PYTHON) -m pip --python $(1)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-pip.lock 2> /dev/null \
	  || $(1)/bin/python -m ensurepip > /dev/null
	@$(1)/bin/python -m pip $(PIP_INSTALL) --require-hashes -r requirements-pip.lock
endef

# Two stamps: what runs the connector, and what also tests it. Each is renewed when its lock file changes.
$(VENV)/run.stamp: requirements.lock requirements-pip.lock pyproject.toml
	@echo "Installing the locked dependencies ..."
	$(call environment,$(VENV))
	@$(BIN)/python -m pip $(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(BIN)/python -m pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@# pip compiles what it copies, and nothing of an editable install; where nobody else may, each start would do it again.
	@$(BIN)/python -m compileall -q assets medscribe_pipeline resources
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing what tests and checks need ..."
	@$(BIN)/python -m pip $(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/run.stamp ## Run everything against simulated providers and a simulated EHR; run again to see only changes
	@MEDSCRIBE_HOME="$(DEMO_HOME)" $(BIN)/medscribe demo

demo-again: demo ## The same, for people who look for it

demo-fresh: $(VENV)/run.stamp ## Forget earlier demos and start from nothing
	@MEDSCRIBE_HOME="$(DEMO_HOME)" $(BIN)/medscribe demo --fresh

ui: $(VENV)/run.stamp ## Open the Dagster UI on the demo; Ctrl-C ends it
	@MEDSCRIBE_HOME="$(DEMO_HOME)" $(BIN)/medscribe demo --ui

test: $(VENV)/dev.stamp ## Run all tests
	$(BIN)/python -m pytest -n $(JOBS)

kill-matrix: $(VENV)/dev.stamp ## Print what is left of a delivery that dies, for every point and strategy
	@$(BIN)/python -m tests.kill_matrix

check: $(VENV)/dev.stamp ## Lint, types, layers, dead code, dependencies, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/deptry .
	$(BIN)/python -m docs.generate --check
	@$(MAKE) --no-print-directory check-deploy

# Schemas and linters first; the tests hold the files against the program: commands, variables, names, Dagster's settings.
check-deploy: $(VENV)/dev.stamp ## Lint what deploy/ has, and hold it against the program
	$(BIN)/yamllint --strict --config-file deploy/.yamllint.yaml deploy workspace.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/python -m pytest -q tests/deploy

format: $(VENV)/dev.stamp ## Format the code and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/dev.stamp ## Write the generated pages of docs/ again
	$(BIN)/python -m docs.generate

# Apart from .venv: dlt and what it brings are nothing the tests should ever see.
$(BENCH)/stamp: bench/requirements.lock requirements-pip.lock pyproject.toml
	@echo "Installing what is measured, and what it is compared with ..."
	$(call environment,$(BENCH))
	@$(BENCH)/bin/python -m pip $(PIP_INSTALL) --require-hashes -r bench/requirements.lock
	@$(BENCH)/bin/python -m pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

bench: $(BENCH)/stamp ## Measure us beside dlt and a bare script; bench/README.md says how (long: ROUNDS, SIZES, ONLY)
	@$(BENCH)/bin/python -m bench.compare --sizes $(SIZES) --rounds $(ROUNDS) --large-rounds $(LARGE_ROUNDS) \
		--sessions $(SESSIONS) --only "$(ONLY)" \
		$(if $(INSTALL),--install) $(if $(PUBLISH),--publish)

# Apart from .venv, too: Celery, a broker and a PostgreSQL that nothing else needs.
$(SCALE)/stamp: scale/requirements.lock requirements-pip.lock pyproject.toml
	@echo "Installing PostgreSQL, a broker and Celery beside the locked dependencies ..."
	$(call environment,$(SCALE))
	@$(SCALE)/bin/python -m pip $(PIP_INSTALL) --require-hashes -r scale/requirements.lock
	@$(SCALE)/bin/python -m pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

scale-demo: $(SCALE)/stamp ## Spread a backfill over several workers and kill one; docs/scaling.md says what for (five minutes)
	@$(SCALE)/bin/python -m scale $(SCALE_OPTIONS)

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links
RUN_EXTRAS := --extra ui --extra postgres --extra build
IMAGE_EXTRAS := --extra ui --extra postgres --extra pdf --extra otel --extra deploy --extra celery
lock: ## Resolve the dependencies again (needs uv)
	$(LOCK) --upgrade $(RUN_EXTRAS) pyproject.toml -o requirements.lock
	$(LOCK) --upgrade $(RUN_EXTRAS) $(IMAGE_EXTRAS) --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(LOCK) --upgrade $(IMAGE_EXTRAS) -c requirements-dev.lock pyproject.toml -o deploy/requirements.lock
	$(LOCK) --upgrade $(RUN_EXTRAS) --extra bench -c requirements-dev.lock pyproject.toml -o bench/requirements.lock
	$(LOCK) --upgrade $(RUN_EXTRAS) --extra deploy --extra celery --extra scale -c requirements-dev.lock pyproject.toml \
		-o scale/requirements.lock
	echo pip | $(LOCK) --upgrade - -o requirements-pip.lock
	echo hatchling | $(LOCK) --upgrade -c requirements.lock - -o deploy/requirements-build.lock

clean: ## Remove the environment, caches and the demo
	rm -rf $(VENV) $(BENCH) $(SCALE) $(DEMO_HOME) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
