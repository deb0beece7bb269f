# Two commands do everything on a machine that has Python and make: `make quickstart` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# Two processes of one thread each: the tests start many short programs. Each begins with one half, so that most fixtures of
# modules are made once, and takes tests from the other when it is through.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal
# Lowest share of lines, in percent, that the tests may cover; raise it when they cover more.
COVERAGE_FLOOR = 96
# Python 3.12 and newer measure coverage through sys.monitoring, at almost no cost. The tracer of older versions makes the
# tests a third slower, so there `make coverage` measures, and `make test` does not.
MEASURE = --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR)
MONITORED = $(shell $(BIN)/python -c 'import sys; print("$(MEASURE)" if sys.version_info >= (3, 12) else "")' 2>/dev/null)

.PHONY: quickstart model docs install test test-slow check lint types imports unit coverage test-gpu format clean

## quickstart: install; maps of photos by the model in the box; then train, evaluate and export a small model
quickstart: install
	$(BIN)/neuropbr infer examples/captures/bricks --output maps/bricks
	$(BIN)/neuropbr report maps/bricks --picture maps/bricks/picture.jpg
	$(BIN)/neuropbr run recipes/quickstart.yaml --overwrite

## model: train the shipped model again, on the materials in the folder MATERIALS; hours (docs/models.md)
MODEL = flash-3
# The examples among the development and the sealed list of benchmarks/materials_lists.yaml: scores must not be memory.
HELD_BACK = acg_Bricks102, acg_Metal053C, acg_MetalPlates006, acg_Tiles032, t3_Pebbles_025, t3_Sci-Fi_Wall_014, t3_Wood_027
model: install
	test -d "$(MATERIALS)" || { echo 'name a folder of material folders: make model MATERIALS=DIR'; exit 1; }
	$(BIN)/neuropbr run recipes/flash_live.yaml --run-name $(MODEL) \
		--set 'data.source.materials=[neuropbr:examples/materials, "$(MATERIALS)"]' --set 'data.val_materials=[$(HELD_BACK)]'
	$(BIN)/python models/ship.py runs/$(MODEL) $(MODEL) --checkpoint latest

## docs: the documentation as a site that opens offline, in build/site
docs: install
	$(BIN)/python docs/site/assemble.py build/site

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neuropbr needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

## test: style, types, walls, dependencies, and all tests but the slow ones (the built wheel is among them)
test: check unit

check: lint types imports

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/deptry .

types: install
	$(BIN)/mypy
	$(BIN)/mypy benchmarks models/ship.py

imports: install
	$(BIN)/lint-imports

unit: install
	COVERAGE_CORE=sysmon $(PYTEST) -m "not slow and not gpu" $(MONITORED)

## coverage: the tests of `make test`, and the lines of neuropbr_core that they do not reach
coverage: install
	$(PYTEST) -m "not slow and not gpu" $(MEASURE)

## test-slow: what takes long
test-slow: install
	$(PYTEST) -m slow

## test-gpu: what needs a CUDA device
test-gpu: install
	$(BIN)/pytest -m gpu

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
