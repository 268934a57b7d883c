# Works with Python 3.11 or newer, make and a package registry; everything else goes into .venv.
#
#   make demo         both samples, start to end: two answers, two reports
#   make test         the tests, without the long sweeps; its last lines say what CPU time they took
#   make check-slow   the long sweeps, and the properties on twenty times the examples
#   make bench        what costs time, as ratios of two things measured in the same run
#   make fuzz         every reader on FUZZ_MUTANTS (20000) bent files, then FUZZ_SECONDS (60) on bytes that grow
#   make lint         ruff, mypy, import order, query headers, generated pages, chart library
#   make docs         write the generated reference pages and the notebooks again
#   make site         the documentation as a site, every link checked;  make site-lock  renew its packages
#   make chart-library  write the chart library of reports again, after a new altair or vl-convert
#   make lock         renew requirements.lock;  make lock-check  is it still right?
#   make clean        remove what these made, .venv included

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.done-lock
READY := $(VENV)/.done-install
WORKERS ?= 2

# One thread per process: the numeric libraries otherwise start one per core in each test worker.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
# Tests start the program hundreds of times: without its bytecode each start compiles all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:
	@sed -n 's/^#  *make/make/p' Makefile

$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than 3.11; say which one to use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.PHONY: install
install: $(READY)

.PHONY: demo
demo: $(READY)
	$(BIN)/hsa run data_samples/dynamo-pd --pressure-test --slo ttft=2s --slo tbt=50ms \
	  --run-dir reports/demo-dynamo-pd > reports/demo-dynamo-pd.txt
	$(BIN)/hsa run data_samples/simulated-days --slo ttft=2.5s --slo tbt=50ms --startup 240s \
	  --run-dir reports/demo-simulated-days > reports/demo-simulated-days.txt
	@printf '\n== data_samples/dynamo-pd: real serving components under a set load ==\n'
	@cat reports/demo-dynamo-pd.txt
	@printf '\n== data_samples/simulated-days: two and a half simulated days ==\n'
	@cat reports/demo-simulated-days.txt

.PHONY: test
test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

.PHONY: check-slow
check-slow: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "hypothesis and not slow" --hypothesis-profile thorough

.PHONY: bench
bench: $(READY)
	$(BIN)/python tests/bench/startup.py
	$(BIN)/python tests/bench/ingest.py
	$(BIN)/python tests/bench/align.py
	$(BIN)/python tests/bench/scale.py
	$(BIN)/python tests/bench/study.py
	$(BIN)/python tests/bench/autoscalers.py

# atheris lives in its own environment, which sees the libraries of .venv: it is not needed to run or test.
FUZZ_SECONDS ?= 60
FUZZ_MUTANTS ?= 20000
FUZZ_FORMATS ?=

.PHONY: fuzz
fuzz: $(READY)
	test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -c 'import atheris' 2>/dev/null \
	  || .venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check "atheris>=3"
	PYTHONPATH=.:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') POLARS_MAX_THREADS=1 \
	  .venv-fuzz/bin/python tests/fuzz/campaign.py $(FUZZ_SECONDS) $(FUZZ_MUTANTS) $(FUZZ_FORMATS)

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/query_headers.py
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/notebooks.py --check
	$(BIN)/python tests/chart_library.py --check

.PHONY: docs
docs: $(READY)
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/notebooks.py

# mkdocs lives in its own environment: it is not needed to run or test.
.PHONY: site
site: .venv-site/.done
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --quiet --strict

.venv-site/.done: .ci/site.lock
	test -x .venv-site/bin/python || $(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/site.lock
	touch $@

.PHONY: chart-library
chart-library: $(READY)
	$(BIN)/python tests/chart_library.py

# pip-tools lives in its own environment: what it brings is not needed to run or test.
.PHONY: lock
lock:
	test -x .venv-lock/bin/pip-compile || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet "pip-tools>=7.5"; }
	CUSTOM_COMPILE_COMMAND="make lock" .venv-lock/bin/pip-compile --quiet --generate-hashes --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	  --extra test --build-deps-for wheel --build-deps-for editable \
	  $(LOCK_FLAGS) --output-file requirements.lock pyproject.toml

.PHONY: site-lock
site-lock:
	test -x .venv-lock/bin/pip-compile || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet "pip-tools>=7.5"; }
	CUSTOM_COMPILE_COMMAND="make site-lock" .venv-lock/bin/pip-compile --quiet --generate-hashes --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	  $(LOCK_FLAGS) --output-file .ci/site.lock .ci/site.in

.PHONY: lock-check
lock-check: $(READY)
	$(BIN)/python -m pytest -q tests/test_lock.py

.PHONY: clean
clean:
	rm -rf $(VENV) .venv-lock .venv-fuzz .venv-site .fuzz build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf reports/demo-dynamo-pd reports/demo-simulated-days reports/demo-*.txt
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
