# Every target makes .venv if it is missing and installs what it needs. Only Python (3.11 to 3.13) and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := ota_protocol model_build server edge_client demo
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo demo-keep test test-quick check e2e bench bench-entropy bench-delta bench-compression fuzz clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(INSTALLED) ## make .venv with every command: ota-build, ota-server, ota-agent, ota-delta

$(INSTALLED): constraints.txt requirements-dev.txt $(DISTRIBUTIONS:%=%/pyproject.toml)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r requirements-dev.txt $(DISTRIBUTIONS:%=-e ./%)
	@touch $@

demo: $(INSTALLED) ## the main job: build, sign, publish, roll out, verify, infer, count the bytes saved
	$(BIN)/ota-demo run --report demo-report.json

demo-keep: $(INSTALLED) ## the demo, leaving its fleet running, and where to look
	$(BIN)/ota-demo run --keep --report demo-report.json

test: $(INSTALLED) ## every test that needs no Docker engine
	$(BIN)/python -m pytest -m "not e2e and not nightly" -n 2 --dist loadgroup

test-quick: $(INSTALLED) ## the tests that take seconds
	$(BIN)/python -m pytest -m "not e2e and not nightly and not slow" -n 2 --dist loadgroup

check: $(INSTALLED) ## ruff, mypy strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-entropy bench-delta bench-compression ## every claim measured beside its peers (hours)

bench-entropy: $(INSTALLED) ## the coder of weights beside LZMA and its own bounds (a minute)
	nice -n 10 $(BIN)/python -m benchmarks.entropy

PEERS := .venvs/bench
bench-delta: $(INSTALLED) $(PEERS)/.installed ## deltas beside byte differs, on the same pairs, in one run (an hour)
	nice -n 10 $(BIN)/python -m benchmarks.delta

$(PEERS)/.installed: benchmarks/delta-requirements.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/delta-requirements.txt
	@touch $@

CODECS := .venvs/nncodec
bench-compression: $(INSTALLED) $(CODECS)/.installed $(PEERS)/.installed ## compression beside NNCodec, on the same weights, in one run (half an hour)
	nice -n 10 $(BIN)/python -m benchmarks.compression

$(CODECS)/.installed: benchmarks/compression-requirements.txt
	@test -x $(CODECS)/bin/python || $(PYTHON) -m venv $(CODECS)
	$(CODECS)/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/compression-requirements.txt
	@touch $@

fuzz: $(INSTALLED) ## 100,000 broken deltas (ten minutes)
	$(BIN)/python -m pytest -m nightly -n 2 tests/attacks

e2e: $(INSTALLED) ## the fleet of docker-compose.yml, run to its end
	$(BIN)/python -m pytest -m e2e tests/e2e -s

clean: ## remove .venv and what the demo left
	rm -rf $(VENV) demo-state demo-report.json compose-report.json
