# Two commands matter: `make run` (the demo study) and `make test`. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
CORES ?= all
SOURCES := src tests benchmarks workflow/scripts
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help env run report test check unit reference format clean

help:  ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(STAMP)  ## make .venv from the pinned lock

$(STAMP): envs/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mrsynth needs Python 3.11 or newer: make PYTHON=python3.11 env")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

run: $(STAMP)  ## run the demo study: raw DICOM of a digital cohort to tables
	snakemake --cores $(CORES) --resources gpu=1

report: $(STAMP)  ## write report.html of the results that are there
	snakemake --cores 1 --report report.html

test: check unit  ## formatters' checks, lint and all tests

check: $(STAMP)  ## ruff, snakefmt and snakemake --lint
	ruff check $(SOURCES)
	ruff format --check $(SOURCES)
	snakefmt --check Snakefile workflow/rules workflow/inputs
	snakemake --lint

unit: $(STAMP)  ## the tests alone
	python -m pytest -n 2 --dist loadfile -m "not long"

reference: $(STAMP)  ## write the config reference into config/README.md
	python -c 'from mrsynth.reference import write_reference as w; w("config/README.md", "workflow/schemas")'

format: $(STAMP)  ## put everything in form
	ruff check --fix $(SOURCES)
	ruff format $(SOURCES)
	snakefmt Snakefile workflow/rules workflow/inputs

clean:  ## remove results, logs and Snakemake's notes (keeps .venv and private/)
	rm -rf results logs .snakemake
