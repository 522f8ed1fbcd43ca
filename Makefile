# make setup   a virtual environment in .venv with everything installed
# make demo    raw video to messages, on clips that it makes itself (100 s, after the install)
# make test    the tests (about 7 minutes on two cores)
# make lint    ruff, mypy and import-linter
#
# make test-unit   the quick tests (under 40 seconds)
# make test-slow   the tests that take long
# make test-soak   kills, mutations, faults and coverage in full numbers
# make test-lowest the quick tests and a real extraction on the lowest versions that setup.cfg allows
# make docs        the generated pages of docs/, again

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
# Processes that share the files of the default tests
WORKERS ?= 2
# Further words for pytest: make test PYTEST="-x --durations=20"
PYTEST ?=

.PHONY: setup demo test test-unit test-slow test-soak test-lowest lint docs clean

setup: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Heliograph needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): up to 6 GB of packages, a few minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,test,lint]'
	touch $@

demo: setup
	$(BIN)/heliograph demo --out runs/demo

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST)

test-unit: setup
	$(BIN)/python -m pytest -m "not slow and not soak and not integration and not gpu" $(PYTEST)

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not soak" $(PYTEST)

test-soak: setup
	$(BIN)/python -m pytest -m soak $(PYTEST)

# uv resolves the floors itself; pip gets them as constraints. Up to 6 GB, in an environment of its own.
test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -m "not slow and not soak and not integration and not gpu" $(PYTEST)
	rm -rf $(LOWEST)/clips $(LOWEST)/ramp.h5
	$(LOWEST)/bin/heliograph simulate ramp -o $(LOWEST)/clips --per-cell 8
	$(LOWEST)/bin/heliograph extract $(LOWEST)/clips/manifest.jsonl -o $(LOWEST)/ramp.h5 --backbone efficientnet_lite0 --frames 8
	$(LOWEST)/bin/heliograph cache verify $(LOWEST)/ramp.h5

$(LOWEST)/installed: setup.cfg pyproject.toml
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	if command -v uv > /dev/null; then \
	  uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[embedded,test]'; \
	else \
	  $(PYTHON) -m tests.helpers.lowest_versions embedded test > $(LOWEST)/constraints.txt && \
	  $(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint $(LOWEST)/constraints.txt --editable '.[embedded,test]'; \
	fi
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m tests.helpers.module_tree
	$(BIN)/python -m pipeline.metrics docs
	$(BIN)/python -m pipeline.runs.metrics_docs > docs/metrics_json.md

clean:
	rm -rf $(VENV) $(LOWEST) runs *.egg-info
