# Needs Python 3.11 or newer, make, and a package registry that pip reaches. Everything else goes into .venv.
#
#   make install    the command .venv/bin/aforesaid
#   make serve      install, then `aforesaid serve $(ARGS)`; LOCAL=1 adds the offline generative answerer
#   make test       the tests; ARGS goes to pytest, e.g. ARGS="tests/store -x"
#   make check      style, types, layers, documents (each alone: check-style, check-types, check-layers, check-docs)
#   make bench      the benchmarks; ARGS goes to `python -m benchmarks`
#   make docs       the generated pages of the documentation
#   make format     style, mended where it can be
#   make lock       requirements/*.txt anew; ARGS=--upgrade for newer versions
#   make clean      away with everything that make made
#
# PYTHON chooses the interpreter: make install PYTHON=python3.13

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := install
.PHONY: install dev serve test check check-style check-types check-layers check-docs bench docs format lock clean

ARGS ?=
LOCAL ?=
# The first interpreter that runs and is new enough: a name on the path may be a shim that leads nowhere.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; exit; fi; done)

VENV := .venv
BIN := $(VENV)/bin
# uv is quick, pip is what everybody's settings (mirrors, certificates) are written for: the second mends the first.
INSTALL = scripts/install.sh $(BIN)

# The stamps: what is installed is as new as the list it was installed from.
BASE := $(VENV)/.base
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
LOCAL_STAMP := $(VENV)/.local

$(BASE): requirements/build.txt
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; fi
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r requirements/build.txt
	@touch $@

$(RUN): $(BASE) requirements/run.txt pyproject.toml
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(LOCAL_STAMP): $(BASE) requirements/local.txt
	@$(INSTALL) --require-hashes -r requirements/local.txt
	@touch $@

install: $(RUN)

dev: $(DEV)

serve: $(RUN) $(if $(LOCAL),$(LOCAL_STAMP))
	@$(if $(LOCAL),AFORESAID_LOCAL_MODEL=true) exec $(BIN)/aforesaid serve $(ARGS)

test: $(DEV)
	@scripts/prepare-tests.sh
	$(BIN)/python -m pytest $(if $(findstring -n,$(ARGS)),,-n 2 --dist loadgroup) $(ARGS)

check: check-style check-types check-layers check-docs

check-style: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff .

# Folders without a Python file are none of mypy's.
check-types: $(DEV)
	$(BIN)/mypy $(foreach d,src tests benchmarks scripts,$(if $(wildcard $d/*.py $d/*/*.py),$d))

check-layers: $(DEV)
	$(BIN)/lint-imports

check-docs: $(DEV)
	$(BIN)/python scripts/build_docs.py --check
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_docs.py

bench: $(DEV)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV)
	$(BIN)/python scripts/build_docs.py $(ARGS)

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(BASE)
	bash scripts/lock.sh $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/node/node_modules
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
