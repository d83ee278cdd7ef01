# Tailrace: one verb a job. `make run` and `make test` do all the set-up a machine needs.
# Wanted: python3 >= 3.11 with its venv module, make, and a package index that pip can reach. Nothing else.

PYTHON ?= python3
PORT   ?= 9092
JOBS   ?= 2
SEEDS  ?= 1000
TESTS  ?= tests

VENV   := .venv
PEERS  := .peers
BIN    := $(VENV)/bin
MVN    ?= mvn
KAFKA  := 4.3.1

ADDRESS = $(if $(filter 0,$(PORT)),BOOTSTRAP,127.0.0.1:$(PORT))# of a free port, the line `ready bootstrap=...` tells

.DEFAULT_GOAL := help
.PHONY: help install run fmt lint type test check peers perf compat sim chaos wheel clean distclean

help:  ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 18

# --- set-up: the environment is made once, and its packages looked at again only when pyproject.toml changes

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no '$(PYTHON)' here; install Python 3.11 or newer, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old, Tailrace needs 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv) and run make again" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

install: $(VENV)/installed-dev  ## the environment .venv with everything that tests and checks need

run: $(VENV)/installed  ## a one-node broker on 127.0.0.1:9092 and a Unix socket; Ctrl-C stops it
	@echo "Tailrace starts; connect any Kafka client to $(ADDRESS), for example"
	@echo "  echo hello | $(BIN)/tailrace produce -b $(ADDRESS) -t greetings"
	@echo "  $(BIN)/tailrace consume -b $(ADDRESS) -t greetings -o beginning -e"
	@exec $(BIN)/tailrace start --port $(PORT)

# --- checks

fmt: $(VENV)/installed-dev  ## sort imports and mend what ruff can mend
	$(BIN)/ruff check --fix .

lint: $(VENV)/installed-dev  ## ruff
	$(BIN)/ruff check .

type: $(VENV)/installed-dev  ## mypy --strict and pyright in strict mode
	$(BIN)/mypy -p tailrace
	$(BIN)/mypy tests perf
	$(BIN)/pyright

test: $(VENV)/installed-dev  ## the tests; one part of them: make test TESTS=tests/unit
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -rs $(TESTS)

check: lint type test  ## what has to be green before a change goes in

compat: $(VENV)/installed-dev $(PEERS)/frameworks/installed  ## a million records through every client we know (needs make peers; minutes)
	$(BIN)/python -m pytest -q -m full -rs tests/compat

sim: $(VENV)/installed-dev  ## whole clusters in virtual time; SEEDS=20000, or SEED=k [SCENARIO=cluster] for one run and its story
	PYTHONHASHSEED=0 $(BIN)/python -m tests.sim --jobs $(JOBS) --seeds $(SEEDS) $(if $(SEED),--seed $(SEED)) $(addprefix --only ,$(SCENARIO))

chaos: $(VENV)/installed-dev  ## kill -9 in a loop under producers that must not lose anything (minutes)
	$(BIN)/python -m pytest -q -m full -rs tests/chaos

perf: $(VENV)/installed-dev  ## Tailrace and Apache Kafka side by side, as ratios (needs make peers; minutes)
	$(BIN)/python -m perf

# --- peers: what the tests compare with, and clients that are not written in Python

peers: $(PEERS)/kafka-$(KAFKA) $(VENV)/installed-dev  ## Apache Kafka's jars (Maven) and kcat (apt-get, when root)
	@command -v kcat >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get install -qq --yes kcat || { apt-get update -qq && apt-get install -qq --yes kcat; }) >/dev/null; \
	fi; \
	command -v kcat >/dev/null || echo "make: kcat is not here and could not be installed (needs root and apt-get): its tests will be skipped" >&2

$(PEERS)/kafka-$(KAFKA): tests/compat/peers/pom.xml
	@command -v java >/dev/null || { echo "make: no java here; install a Java 17 or newer (Debian: apt-get install default-jdk-headless maven)" >&2; exit 1; }
	@command -v $(MVN) >/dev/null || { echo "make: no '$(MVN)' here; install Maven (Debian: apt-get install maven)" >&2; exit 1; }
	@mkdir -p $(PEERS)
	$(MVN) --quiet --batch-mode --file tests/compat/peers/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(PEERS)/jars
	@touch $@

$(PEERS)/frameworks/installed: tests/compat/frameworks/requirements.txt  # they pin other versions of what we test with
	rm -rf $(PEERS)/frameworks
	$(PYTHON) -m venv $(PEERS)/frameworks
	$(PEERS)/frameworks/bin/python -m pip install --quiet --requirement $<
	@touch $@

# --- packaging

wheel: $(VENV)/installed-dev  ## sdist and wheel in dist/, then every module imported from the wheel in a clean environment
	rm -rf dist build
	$(BIN)/python -m build --outdir dist
	rm -rf build/wheel-trial
	$(PYTHON) -m venv build/wheel-trial
	build/wheel-trial/bin/python -m pip install --quiet dist/*.whl
	cd build && wheel-trial/bin/python -I ../tests/tidy/import_everything.py

clean:  ## what builds and tests left behind
	rm -rf build dist perf/results .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find core shm workers clients tests perf tailrace -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## also the environment and the peers
	rm -rf $(VENV) $(PEERS)
