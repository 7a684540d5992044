# The environment lives in .venv; every target makes it first when it is absent or out of date.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
FAST := tests/store $(addprefix tests/analyses/,attention correspondence metrics selection)
# of these, what kills writers, damages files by the hundred or repeats a selection under many settings
SLOWER := $(addprefix tests/,store/recordings/test_faults.py store/clips/test_truncation.py analyses/selection/test_stability.py)

# bytecode is kept even where the environment says otherwise: to compile all modules again, and to rewrite the asserts of
# the tests, takes each worker and each command ten seconds
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test suite compiled test-devices test-gpu check lint bench notebooks docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       recording, sweep, selection, tracking and report on scenes nobody trained on"
	@echo "make test       the tests, the notebooks, the linters"
	@echo "make compiled   the tests of compiled transformers, which take minutes"
	@echo "make test-devices  every public path of every family on a pretend GPU, which takes minutes"
	@echo "make test-gpu   the tests that need a GPU"
	@echo "make check      the linters, the types and the fast tests, in about a minute"
	@echo "make lint       ruff, mypy, import-linter"
	@echo "make bench      the figures of docs/benchmarks"
	@echo "make notebooks  run the notebooks and keep their pictures"
	@echo "make docs       the documentation site, in site/"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,docs,notebooks]"
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m ditprobe.demo

# the linters run beside the tests, which wait for files and browsers part of the time
test: $(READY)
	$(MAKE) --no-print-directory -j 2 lint suite

suite: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

compiled: $(READY)
	DITPROBE_COMPILED=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/probe/families/test_adapted.py -k compiled

test-devices: $(READY)
	DITPROBE_DEVICES=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -rP -n $(WORKERS) --dist worksteal tests/ditprobe/test_pretend_device.py tests/ditprobe/test_every_pipeline_on_a_device.py -k every

test-gpu: $(READY)
	$(BIN)/pytest -q -m gpu tests/gpu

check: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) $(FAST) $(addprefix --ignore=,$(SLOWER))

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks

notebooks: $(READY)
	$(BIN)/python notebooks/build.py

docs: $(READY)
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf .venv demo site
