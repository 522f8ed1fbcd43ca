# make demo    raw video to messages, on clips that it makes itself (80 s, after the install)
# make setup   the command, in a virtual environment (.venv)
# make test    the tests (about 7 minutes on two cores)
# make lint    ruff, mypy and import-linter
#
# make setup EXTRAS=embedded,flow   with other extras of setup.cfg
# make develop     what tests and lint need, too
# make test-unit   the quick tests (under 40 seconds)
# make test-slow   the tests that take long
# make test-soak   kills, mutations, faults and coverage in full numbers
# make test-lowest the quick tests and a real extraction on the lowest versions that setup.cfg allows
# make gpu         everything that needs a CUDA GPU, in nine minutes, with the python3 at hand
# make docs        the generated pages and pictures of docs/, again, and of all pages the site, in site/
# make wheel       the packages to release, in dist/: built, installed elsewhere, and tried there
# make lock        constraints.txt, the versions that all of these install, from the newest ones

PYTHON ?= python3
EXTRAS ?= embedded
# Where the CPU wheels of torch are, for machines without an NVIDIA driver; empty: take the default ones
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
NEWEST := .venv-newest
# Processes that share the files of the default and the slow tests
WORKERS ?= 2
# Further words for pytest: make test PYTEST="-x --durations=20"
PYTEST ?=
# The run of which `make docs` makes pictures, if it is there
DEMO ?= runs/demo
INSTALL = @$(PYTHON) tools/install.py $(VENV) --cpu-index '$(CPU_INDEX)' --extras

.PHONY: setup develop demo test test-unit test-slow test-soak test-lowest gpu lint docs wheel lock clean

setup:
	$(INSTALL) $(EXTRAS)

develop:
	$(INSTALL) embedded,test,lint,docs

demo:
	$(INSTALL) embedded
	$(BIN)/heliograph demo --out runs/demo

test: develop
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST)

test-unit: develop
	$(BIN)/python -m pytest -m "not slow and not soak and not integration and not gpu" $(PYTEST)

test-slow: develop
	$(BIN)/python -m pytest -m "slow and not soak" --numprocesses $(WORKERS) --dist loadfile $(PYTEST)

test-soak: develop
	$(BIN)/python -m pytest -m soak $(PYTEST)

# uv resolves the floors itself; pip gets them as constraints. Up to 6 GB, in an environment of its own.
test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -m "not slow and not soak and not integration and not gpu" $(PYTEST)
	$(LOWEST)/bin/python -m pytest tests/pipeline/hub tests/pipeline/agents/test_pretrained.py $(PYTEST)
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

# Further words: make gpu GPU="--hub-dir FOLDER --out gpu.md"
gpu:
	$(PYTHON) benchmarks/gpu.py $(GPU)

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: develop
	$(BIN)/python -m tests.helpers.module_tree
	$(BIN)/python -m pipeline.metrics docs
	$(BIN)/python -m pipeline.runs.metrics_docs > docs/metrics_json.md
	if test -d $(DEMO)/run; then $(BIN)/python -m tools.pictures $(DEMO); fi
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

wheel: develop
	rm -rf build dist
	$(BIN)/python -c "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
	$(BIN)/python -m pytest -m slow tests/test_release.py $(PYTEST)

lock:
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade setuptools
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[embedded,flow,lance,pandas,ray,remote,tensorboard,test,lint,docs]'
	head -2 constraints.txt > $(NEWEST)/constraints.txt
	$(NEWEST)/bin/python -m pip freeze --all --exclude-editable --exclude pip >> $(NEWEST)/constraints.txt
	mv $(NEWEST)/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) build dist runs site *.egg-info
