# Every target sets up its own .venv. Without make: the plain lines are in README.md.
PYTHON ?= python3
VENV ?= .venv
TORCH_VENV ?= .venv-torch
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all lint bench bench-torch clean

demo: $(VENV)/runtime
	$(BIN)/python main.py --config=configs/digits.py --workdir=runs/digits

test: $(VENV)/dev
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/dev
	$(BIN)/python -m pytest

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.input_pipeline
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.encode
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.efficientnet
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.end_to_end --config=configs/digits.py

BESIDE_TORCH = --torch --torch_python=$(TORCH_VENV)/bin/python --mkl_avx512

# Training beside PyTorch, which needs 5 GB of disk; `--out=FILE.json` in OUT keeps the figures.
bench-torch: $(VENV)/runtime $(TORCH_VENV)/torch
	$(BIN)/python -m benchmarks.train_step $(BESIDE_TORCH) --variants=tiny_32px --batches 64 --repetitions=12 $(OUT)
	$(BIN)/python -m benchmarks.train_step $(BESIDE_TORCH) --variants=paper --batches 4 --repetitions=5

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(TORCH_VENV)/torch: benchmarks/requirements.txt
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(PIP) -r requirements.txt -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) $(TORCH_VENV) .pytest_cache .ruff_cache build dist *.egg-info
