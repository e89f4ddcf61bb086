# `make demo` and `make test` do all their own set-up; so does every target here.
SHELL := /bin/bash
export PATH := $(PATH):$(CURDIR)/build/tools/bin
PYTHON := .venv/bin/python
AS_ROOT := scripts/as-root
PYTEST :=
CHECK :=
BENCH :=
PROOF :=

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test lint format unit histories functional integration juju-four faults proof bench pack lock clean setup machines

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Bring up three units of etcd on this machine and use them as a user would
	@$(AS_ROOT) tests/demo/demo up

demo-down: ## Take the demo away again
	@$(AS_ROOT) tests/demo/demo down

test: ## Lint, unit, functional and integration tests, with their counts
	@$(AS_ROOT) scripts/setup machines
	@$(AS_ROOT) scripts/test

lint: setup ## Check the sources
	@scripts/lint

format: setup ## Format the sources
	@$(PYTHON) -m ruff check --quiet --fix --exit-zero .
	@$(PYTHON) -m ruff format .

unit: setup ## Tests that need nothing but Python (PYTEST="-k word" passes arguments on)
	@$(PYTHON) scripts/suite.py run unit $(PYTEST)

histories: setup ## Play 100,000 random histories against the planner (CHECK="--show 7" passes arguments on)
	@PYTHONPATH=src:tests $(PYTHON) -m model.check $(CHECK)

functional: machines ## Tests against real etcd and rclone, without Juju
	@$(AS_ROOT) $(PYTHON) scripts/suite.py run functional $(PYTEST)

integration: pack ## Tests of the packed charm on real machines
	@$(AS_ROOT) $(PYTHON) scripts/suite.py run integration $(PYTEST)

juju-four: pack ## The conformance suite and the charm's first tests where minijuju is Juju 4
	@$(AS_ROOT) $(PYTHON) scripts/suite.py run juju-four $(PYTEST)

faults: pack ## Long tests that hurt machines
	@$(AS_ROOT) $(PYTHON) scripts/suite.py run faults $(PYTEST)

proof: pack ## Actions under faults with clients on every member, judged (PROOF="case split-brain", "seed 7")
	@$(AS_ROOT) env PYTHONPATH=src:tests $(PYTHON) -m proof $(PROOF)

bench: pack ## Measure, against the same done by hand (BENCH="e f" measures some)
	@$(AS_ROOT) env "PATH=$(CURDIR)/build/bin:$$PATH" $(PYTHON) -m benchmarks $(BENCH)

lock: setup ## Pin the Python packages of the charm and of each group (LOCK=--upgrade)
	@PATH="$$PATH:$(CURDIR)/build/tools/bin" $(PYTHON) scripts/lock.py $(LOCK)

pack: machines ## Build the charm
	@$(AS_ROOT) $(PYTHON) scripts/pack.py

clean: demo-down ## Remove what was built here, and the demo
	@[ ! -d build/home ] || $(AS_ROOT) env MINIJUJU_HOME=$(CURDIR)/build/home .venv/bin/minijuju down
	@$(AS_ROOT) rm -rf build .venv .pytest_cache .ruff_cache .hypothesis *.charm

setup:
	@scripts/setup python

machines:
	@$(AS_ROOT) scripts/setup machines
