# make setup   a virtual environment in .venv with everything installed
# make demo    raw video to messages, on clips that it makes itself (about 3 minutes)
# make test    the tests (about 5 minutes; `make test-slow` runs the rest)
# make lint    ruff, mypy and import-linter

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-slow lint clean

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
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) runs *.egg-info
