# `make help` lists what there is. Everything runs from .venv, which is made on demand from requirements/.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Debian's own Python: the one the nodes have, whatever else stands in PATH.
PYTHON ?= /usr/bin/python3
PY     := .venv/bin/python
STAMP  := .venv/.made-from-requirements
APT    := $(if $(filter 0,$(shell id -u)),,sudo) env DEBIAN_FRONTEND=noninteractive apt-get -q

PYTEST_OPTIONS ?=
SEEDS          ?= 0:2000
MINUTES        ?=
SEED           ?=
KINDS          ?=

# `make lab-shell node1` and `make lab-cut node1 storage` mean the same as NODE=node1 NET=storage.
ifneq ($(filter lab-%,$(firstword $(MAKECMDGOALS))),)
WORDS := $(wordlist 2,9,$(MAKECMDGOALS))
NODE ?= $(word 1,$(WORDS))
NET  ?= $(word 2,$(WORDS))
ifneq ($(WORDS),)
.PHONY: $(WORDS)
$(WORDS): ; @:
endif
endif
NODE ?=
NET  ?=
define need-node
@if [ -z "$(NODE)" ]; then echo "which node? make $@ NODE=node1" >&2; exit 2; fi
endef

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r target text; do \
	  printf '  %-14s %s\n' "$$target" "$$text"; done

.PHONY: venv
venv: $(STAMP) ## make .venv, installing the Debian packages it needs

$(STAMP): requirements/debian.txt $(wildcard requirements/*.txt)
	@if [ -L .venv ]; then echo "requirements are newer than .venv, which is a link to $$(readlink .venv): make it there" >&2; exit 2; fi
	@missing=; for package in $$(cat requirements/debian.txt); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing from Debian:$$missing"; \
	  $(APT) update; $(APT) install -y --no-install-recommends $$missing; fi
	$(PYTHON) -m venv --clear .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements/test.txt -r requirements/bench.txt \
	  -c requirements/constraints.txt
	@touch $@

.PHONY: lint
lint: $(STAMP) ## ruff (rules and format) and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.PHONY: format
format: $(STAMP) ## let ruff correct what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: generated
generated: $(STAMP) ## write the files that are generated from code
	cd salt/_utils && ../../$(PY) -m mnha.config.reference > ../../pillar/defaults.yaml
	cd salt/_utils && ../../$(PY) -m mnha.oldsuite.schema > ../../extras/old-configuration.schema.json

.PHONY: unit
unit: $(STAMP) ## the tests that need nothing but Python; seconds
	$(PY) -m pytest $(PYTEST_OPTIONS) tests/unit

.PHONY: test
test: $(STAMP) ## everything: two lanes at once, the lab beside lint, unit tests and the simulation
	$(PY) -m tests.lanes

.PHONY: simulate
simulate: $(STAMP) ## look for unsafe schedules: make simulate SEEDS=0:1000000 STATE=million.json (continues there)
	$(PY) -m tests.simulation --seeds $(SEEDS) $(if $(STATE),--state $(STATE)) $(SIMULATE_OPTIONS)

.PHONY: mutants
mutants: $(STAMP) ## try known-bad variants of the guard in all layers of the tests, and write the table
	$(PY) -m tests.simulation.mutants --write

.PHONY: chaos
chaos: $(STAMP) ## random faults in the lab, judged: make chaos MINUTES=30 SEED=7
	PYTHONPATH=salt/_utils $(PY) -m tests.integration.faults.chaos $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(SEED),--seed $(SEED))

.PHONY: soak
soak: $(STAMP) ## load that must cost no VM its life: make soak KINDS="cpu disk latency" MINUTES=30
	MNHA_SOAK_KINDS="$(KINDS)" MNHA_SOAK_MINUTES="$(MINUTES)" \
	  $(PY) -m pytest $(PYTEST_OPTIONS) tests/integration/load/test_false_failover.py

.PHONY: nightly
nightly: $(STAMP) ## what is too long for CI or a matter of luck: marked tests, what the README offers, load, chaos, a million seeds
	$(PY) -m pytest $(PYTEST_OPTIONS) -vv -m nightly tests/kernel tests/functional tests/integration
	$(MAKE) demo
	$(MAKE) soak MINUTES=10
	$(MAKE) chaos MINUTES=$(or $(MINUTES),30) SEED=$(or $(SEED),7)
	$(MAKE) simulate SEEDS=0:1000000
	$(MAKE) bench PEER=pacemaker BENCH_OPTIONS="--rounds 1" # last: a target that is missed keeps nothing else from its turn

.PHONY: bench
bench: $(STAMP) ## measure failover in the lab; PEER=pacemaker measures the peer as well
	PYTHONPATH=salt/_utils $(PY) -m tests.bench $(if $(PEER),--peer $(PEER)) $(BENCH_OPTIONS)

.PHONY: demo
demo: $(STAMP) ## three nodes, a power cut and the failover, from nothing to clean-up
	$(PY) -m lab demo

.PHONY: lab-up
lab-up: $(STAMP) ## make a cluster of three nodes and keep it
	$(PY) -m lab up

.PHONY: lab-status
lab-status: $(STAMP) ## which nodes have power, are frozen, are cut
	$(PY) -m lab status

.PHONY: lab-shell
lab-shell: $(STAMP) ## a shell on a node: make lab-shell NODE=node1
	$(need-node)
	$(PY) -m lab shell $(NODE)

.PHONY: lab-poweroff
lab-poweroff: $(STAMP) ## cut a node's power: make lab-poweroff NODE=node1
	$(need-node)
	$(PY) -m lab poweroff $(NODE)

.PHONY: lab-poweron
lab-poweron: $(STAMP) ## give it back: make lab-poweron NODE=node1
	$(need-node)
	$(PY) -m lab poweron $(NODE)

.PHONY: lab-cut
lab-cut: $(STAMP) ## cut a node off a network: make lab-cut NODE=node1 NET=storage (or mgmt)
	$(need-node)
	$(PY) -m lab cut $(NODE) $(or $(NET),storage)

.PHONY: lab-heal
lab-heal: $(STAMP) ## end a node's cuts: make lab-heal NODE=node1
	$(need-node)
	$(PY) -m lab heal $(NODE)

.PHONY: lab-down
lab-down: $(STAMP) ## remove the cluster and all that belongs to it
	$(PY) -m lab down
