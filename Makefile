# What CI runs, by name. PYTHON: the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GAME ?= MinAtar/Breakout-v1
RUN ?= runs/first
COMPARE ?= runs/compare
COMPARE_STEPS ?= 500000
# A process for each CPU; whoever is done takes over tests of the others.
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: train compare test test-all build lint stubs native exactness bench clean

# Trains PPO from nothing; the curve is $(RUN)/curve.png. Run it again to continue a stopped run.
train: build
	@if [ -e $(RUN)/config.json ]; then \
	  $(BIN)/fastrl train --resume $(RUN); \
	else \
	  $(BIN)/fastrl train $(GAME) --run-dir $(RUN) --total-steps 1000000; \
	fi
	@echo "curve: $(RUN)/curve.png"

# PPO against a learned lambda: two games, two variants, three seeds, in a few minutes. Run it again
# to continue a stopped sweep; the page is $(COMPARE)/report/index.html.
compare: build
	@if [ -e $(COMPARE)/sweep.json ]; then \
	  $(BIN)/fastrl sweep --resume $(COMPARE); \
	else \
	  $(BIN)/fastrl sweep --env MinAtar/Breakout-v1 --env MinAtar/Asterix-v1 --variant ppo \
	    --variant variance-lambda --seeds 3 --set total_steps=$(COMPARE_STEPS) --out $(COMPARE); \
	fi
	$(BIN)/fastrl compare $(COMPARE) --baseline ppo --out $(COMPARE)/report

test: build lint native
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gpu"

test-all: build lint native
	$(MAKE) --directory tests/native PYTHON=$(PYTHON) fuzz
	$(BIN)/python -m pytest $(PARALLEL) -m "not gpu"

build: $(VENV)/.built

# torch comes first and alone: the pinned version has a CPU build, a range would fetch CUDA.
$(VENV)/.built: constraints.txt pyproject.toml setup.py $(shell find csrc envs -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools pybind11 torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.h' '*.cpp' '*.cu')
	$(BIN)/pyright

# The types of the native module, as pybind11-stubgen reads them.
stubs: build
	$(BIN)/pybind11-stubgen fastrl._core --output-dir . --exit-code

# The pool and the console under the sanitizers of gcc.
native:
	$(MAKE) --directory tests/native --jobs 2 PYTHON=$(PYTHON)

# Every mode of every Atari game in lockstep with ale-py, the pool with options against ale-py's, and
# the table of results. Takes hours; the first part goes on where it stopped.
exactness: build
	-$(BIN)/python tests/oracle/atari_exactness.py --jobs 2
	-FASTRL_RECORDS=$(CURDIR)/runs/atari-exactness.jsonl \
	  $(BIN)/python -m pytest tests/oracle/test_atari_pool.py -m slow
	$(BIN)/python tests/oracle/atari_exactness.py --table-only

bench: build
	$(BIN)/fastrl bench pool

clean:
	rm -rf build $(VENV) fastrl/_core*.so tests/native/build
