# Every target works from a fresh checkout: the first one that is asked for builds .venv and installs into it.
# `make test` also needs Postfix, swaks and openssl; tests/support/install-tools fetches what is missing (Debian, as root).
PYTHON  ?= python3
CONFIG  ?= gatepost.yaml
SECONDS ?= 5
FUZZ    ?=
TESTS   ?= tests
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo run test conformance check format golden fuzz bench abuse chaos tools clean

help:
	@echo "make demo    seventeen mails through a real gateway on loopback; prints one row a mail"
	@echo "make run     serve CONFIG=gatepost.yaml in the foreground"
	@echo "make test    all tests (TESTS=tests/unit for a part); fetches Postfix and swaks when missing"
	@echo "make conformance    the published suites alone (part of make test), with the counts of each"
	@echo "make check   format, lint, types, import layers, shipped policies"
	@echo "make golden  rewrite tests/transcripts/*.smtp from what the gateway says; read the diff"
	@echo "make fuzz    random octets, SECONDS=5 for each target; FUZZ='spfrecord author' for some of them"
	@echo "make chaos   mails through two gateways while everything is killed at random: MESSAGES=10000 BLOWS=220 SEED=1"
	@echo "make abuse   5,000 idle, 500 dripping, 200 flooding connections while 20 honest clients deliver"
	@echo "make bench   cost of a message, as ratios to a floor measured in the same run"

# Made anew when what is to be installed changes. The stamp is written last, so that a broken install is never taken for one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/gatepost demo

run: $(STAMP)
	$(BIN)/gatepost serve -c $(CONFIG)

tools:
	@tests/support/install-tools

test: $(STAMP) tools
	$(BIN)/python -m pytest -rs $(TESTS)

conformance: $(STAMP)
	$(BIN)/python -m pytest -rs tests/conformance

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/gatepost policy check --policies policies
	$(BIN)/gatepost policy test --policies policies

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(STAMP)
	GOLDEN=write $(BIN)/python -m pytest tests/transcripts
	@git --no-pager diff --stat -- tests/transcripts

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(FUZZ)

bench: $(STAMP)
	$(BIN)/python -m tests.bench.run

# As root, like all tests with Postfix; about ten minutes. Writes docs/RELIABILITY.md.
MESSAGES ?= 10000
BLOWS    ?= 220
SEED     ?= 1
chaos: $(STAMP) tools
	$(BIN)/python -m tests.chaos.run --messages $(MESSAGES) --blows $(BLOWS) --seed $(SEED) --report docs/RELIABILITY.md

abuse: $(STAMP)
	$(BIN)/python -m tests.bench.abuse

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
