# Everything a fresh machine needs is Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench format clean

demo: .venv/runtime
	rm -rf out
	$(BIN)/showtell caption examples --annotate out
	@echo "The captioned images and a contact sheet are in out/."

test: .venv/everything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest

# Needs a machine that does nothing else, and a caption file of COCO: make bench CAPTIONS=captions_val2017.json
bench: .venv/everything
	$(BIN)/python -m pip install --quiet '.[train,bench]'
	$(BIN)/python benchmarks/all.py --captions $(CAPTIONS)

format: .venv/everything
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv out

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "showtell needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/everything: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[train,serve,dev]'
	@touch $@ .venv/runtime
