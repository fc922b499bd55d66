# Every target sets up its own .venv. Without make: the plain lines are in README.md.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all lint bench clean

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

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(PIP) -r requirements.txt -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist *.egg-info
