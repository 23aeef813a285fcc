# Two commands for a newcomer: `make run` and `make test`. Each sets up what is missing, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# GPU=1 installs TensorFlow's CUDA build instead of the CPU's.
GPU ?=
LOCK := requirements/$(if $(GPU),gpu,cpu).txt
READY := .venv/.ready-$(if $(GPU),gpu,cpu)
PROFILE ?=

export DAGSTER_HOME := $(CURDIR)/dagster_home
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup run test ui repro lint lock

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY) .venv-dvc/.ready ## both environments, from the locks

# Compiled at once: every step is a process, and TensorFlow's sources take seconds to compile in each where they may not be cached.
$(READY): $(LOCK) requirements/uv.txt pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r $(LOCK)
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --no-deps --editable .
	rm -f .venv/.ready-*
	touch $@

# DVC and dagster need different releases of antlr and cannot share an environment (dagster #27487, omegaconf #1218).
.venv-dvc/.ready: requirements/dvc.txt | $(READY)
	test -x .venv-dvc/bin/python || .venv/bin/uv venv --quiet --python .venv/bin/python .venv-dvc
	VIRTUAL_ENV=$(CURDIR)/.venv-dvc .venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r $<
	touch $@

run: setup ## the whole graph; PROFILE=smoke|quick|laptop|paper|best
	cifar run $(if $(PROFILE),--profile $(PROFILE))

test: setup ## the tests; ARGS="-k table" for some
	python -m pytest $(ARGS)

ui: setup ## the Dagster UI on localhost:3000
	dagster dev --workspace workspace.yaml

repro: setup ## `dvc repro` under params.yaml's profile, or PROFILE
	$(if $(PROFILE),cifar profile $(PROFILE))
	.venv-dvc/bin/dvc repro

lint: setup ## style, types, layers, workflows and definitions
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	dg check defs --use-active-venv

lock: setup ## pin again, after a change of pyproject.toml or requirements/*.in
	for kind in cpu gpu; do \
	  .venv/bin/uv pip compile pyproject.toml --extra $$kind --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/$$kind.txt; done
	for name in dvc uv; do \
	  .venv/bin/uv pip compile requirements/$$name.in --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/$$name.txt; done
