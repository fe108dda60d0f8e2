# Everything a fresh machine needs is Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz faults bench scale docs reference pictures dist lowest lock audit format clean

demo: .venv/runtime
	rm -rf out
	$(BIN)/showtell caption examples --annotate out
	@echo "The captioned images and a contact sheet are in out/."

test: .venv/everything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Damaged files by the ten thousand; some two minutes.
fuzz: .venv/everything
	$(BIN)/python tests/fuzz.py

# Kills and full disks, for an hour or so; given again, it goes on where it stopped.
faults: .venv/everything
	$(BIN)/python tests/faults/long.py out/faults

# Needs a machine that does nothing else, and a caption file of COCO: make bench CAPTIONS=captions_val2017.json
bench: .venv/everything
	$(BIN)/python -m pip install --quiet '.[train,bench]'
	$(BIN)/python benchmarks/all.py --captions $(CAPTIONS)

# A data set of COCO's size, from prepare to export; 5 GB in WORK, ten minutes: make scale CAPTIONS=captions_val2017.json
WORK ?= scale
scale: .venv/everything
	$(BIN)/python benchmarks/scale.py --captions $(CAPTIONS) --folder $(WORK)

# The wheel and the source distribution, each installed alone and tried from elsewhere.
dist: .venv/release
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	for file in dist/*; do \
		$(PYTHON) -m venv --clear .venv-dist && \
		.venv-dist/bin/python -m pip install --quiet $$file && \
		(cd dist && ../.venv-dist/bin/showtell caption ../examples) || exit 1; \
	done

# The tests with the oldest versions that pyproject.toml allows.
lowest: .venv/release
	$(PYTHON) -m venv --clear .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[train,serve,ray,dev]'
	.venv-lowest/bin/python -m pytest

# The versions that the tests were last seen to pass with, for: pip install -c constraints.txt '.[train]'
lock: .venv/release
	$(BIN)/uv pip compile pyproject.toml --extra train --extra serve --extra ray --extra dev --universal --upgrade --no-header \
		--no-annotate --quiet --output-file constraints.txt

audit: .venv/release
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: .venv/everything
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Build the documentation in site/.
docs: .venv/docs reference
	$(BIN)/zensical build --clean --strict

# Write the command-line reference from the program.
reference: .venv/runtime
	$(BIN)/typer showtell.cli utils docs --name showtell --output docs/command-line.md

# Those of README, by the model that ships.
pictures: .venv/runtime
	rm -rf out
	$(BIN)/showtell caption examples --annotate out/titled --attention out/attention
	cp out/titled/contact-sheet.jpg docs/captions.jpg
	cp out/attention/000000129648.jpg docs/attention.jpg

clean:
	rm -rf .venv .venv-dist .venv-lowest dist out site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "showtell needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/everything: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[train,serve,ray,dev]'
	@touch $@ .venv/runtime

.venv/release: .venv/everything
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	@touch $@

.venv/docs: .venv/runtime
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@
