# A fresh machine needs only Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage fuzz faults soak bench scale docs reference pictures dist lowest lock audit format clean

demo: .venv/runtime
	rm -rf out
	$(BIN)/showtell caption examples --annotate out
	@echo "The captioned images and a contact sheet are in out/."

test: .venv/everything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# The tests, with a report of the lines that they do not run.
coverage: .venv/everything
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report term-missing

# Opens tens of thousands of damaged and hostile files; takes about half an hour on two cores.
fuzz: .venv/everything
	PYTHONPATH=tests $(BIN)/python tests/fuzzing/runner.py

# Killed processes and full disks; takes about an hour, and resumes when it is run again.
faults: .venv/everything
	$(BIN)/python tests/faults/long.py out/faults

# A load test of the server with well-behaved and hostile clients; takes ten minutes.
soak: .venv/everything
	$(BIN)/python benchmarks/server_load.py --seconds 600 --clients 48 --hostile 16

# Benchmarks. They need an idle machine and a COCO caption file: make bench CAPTIONS=captions_val2017.json
bench: .venv/everything
	$(BIN)/python -m pip install --quiet '.[train,bench]'
	$(BIN)/python benchmarks/all.py --captions $(CAPTIONS)

# A data set of the size of COCO, from prepare to export: make scale CAPTIONS=captions_val2017.json
# It takes ten minutes, and 5 GB in the folder WORK.
WORK ?= scale
scale: .venv/everything
	$(BIN)/python benchmarks/scale.py --captions $(CAPTIONS) --folder $(WORK)

# Build the wheel and the source distribution, install each in a new environment, and run it from another folder.
dist: .venv/release
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	for file in dist/*; do \
		$(PYTHON) -m venv --clear .venv-dist && \
		.venv-dist/bin/python -m pip install --quiet $$file && \
		(cd dist && ../.venv-dist/bin/showtell caption ../examples) || exit 1; \
	done

# Run the tests with the oldest dependencies that pyproject.toml allows.
lowest: .venv/release
	$(PYTHON) -m venv --clear .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[train,serve,ray,dev]'
	.venv-lowest/bin/python -m pytest

# Write the versions with which the tests last passed, for: pip install -c constraints.txt '.[train]'
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

# Draw the images of the README with the shipped model.
pictures: .venv/runtime
	rm -rf out
	$(BIN)/showtell caption examples --annotate out/titled --attention out/attention
	cp out/titled/contact-sheet.jpg docs/captions.jpg
	cp out/attention/000000129648.jpg docs/attention.jpg

clean:
	rm -rf .venv .venv-dist .venv-lowest dist out site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "showtell needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python3"; exit 1; }
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
