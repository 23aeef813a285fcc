# Two commands for a newcomer: `make run` and `make test`. Each sets up what is missing, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# GPU=1 installs TensorFlow's CUDA build, GPU=0 the CPU's; without it, the build that is there stays.
GPU ?=
PROFILE ?=
JOBS ?= 2

export DAGSTER_HOME := $(CURDIR)/dagster_home
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Another environment of the user's, or modules of theirs, must not take the place of ours.
unexport CONDA_PREFIX PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS VIRTUAL_ENV

.PHONY: help setup run test ui repro lint lock

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# The Python is checked before anything is downloaded. Nothing is said where nothing is to be done.
setup: ## both environments, from the locks; PYTHON=/path/to/python3.12 for a certain one
	@python=$$(bash scripts/find-python) && "$$python" -E -s -m scripts.set_up $(if $(GPU),$(if $(filter 0,$(GPU)),cpu,gpu))

run: setup ## the whole graph; PROFILE=smoke|quick|laptop|paper|best
	cifar run $(if $(PROFILE),--profile $(PROFILE))

# Two processes of one thread each: more of either wait for one another on two cores.
test: export TF_NUM_INTRAOP_THREADS = 1
test: export OMP_NUM_THREADS = 1
test: setup ## the tests, JOBS=2 at a time; ARGS="-k table" for some
	python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

ui: setup ## the Dagster UI on localhost:3000
	PYTHONWARNINGS=ignore:Function dagster dev --workspace workspace.yaml

repro: setup ## `dvc repro` under params.yaml's profile, or PROFILE
	$(if $(PROFILE),cifar profile $(PROFILE))
	dvc repro

lint: setup ## style, types, layers, workflows and definitions
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	dg check defs --use-active-venv

lock: setup ## pin again, after a change of pyproject.toml or requirements/*.in
	.venv/bin/python -E -s -m scripts.set_up lock
