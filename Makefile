# Everything here sets itself up: a fresh machine needs Python 3.11 or newer, git, make and a C compiler.
# PYTHON=python3.12 chooses the interpreter that .venv is made with, BENCH_PYTHON that of the benchmarks;
# ARGS="…" goes to the command.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
# A distribution's Python is built with PGO and LTO, as that of the image is and as nginx and HAProxy are
# optimised; the first one on PATH may not be, and cost a fifth more.
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import os, sys; os.getuid() and __import__("ensurepip"); \
	sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
BIN := .venv/bin
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links pyproject.toml
# $(call have,PROGRAM,PACKAGE): install PACKAGE as root; without root, what needs it says so itself.
have = command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(2) >/dev/null; } \
	|| echo "$(1) is missing: apt install $(2)" >&2

# $(call venv,PYTHON,DIRECTORY): make a virtual environment, with its pip.
define venv
@test -n "$(1)" || { echo "no Python 3.11 or newer was found: say PYTHON=/where/it/is" >&2; exit 1; }
@$(1) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null; } \
	|| { echo "$(1) has no venv module: apt install python3-venv" >&2; exit 1; }
$(1) -m venv $(2)
endef

# $(call fill,DIRECTORY): install what the rule's lock file pins, and the project; the target remembers it.
define fill
$(1)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
$(1)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -e .
@touch $@
endef

.DEFAULT_GOAL := help
.PHONY: help demo test test-spark bench lock generated clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## Sidecar, example upstreams, traffic and an incident that it survives
	$(BIN)/fusebox demo $(ARGS)

test: .venv/.dev ## Linters, types, layers, the shipped settings, then all tests
	@$(call have,curl,curl)
	@PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; $(call have,initdb,postgresql)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fusebox check --config config/fusebox.toml
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-spark: .venv-spark/.spark ## The SQL templates on Spark, on the files that DuckDB reads (needs Java 17)
	@$(call have,java,openjdk-17-jre-headless)
	.venv-spark/bin/pytest tests/spark $(ARGS)

bench: .venv-bench/.of$(subst /,-,$(BENCH_PYTHON)) ## What it costs beside nginx, HAProxy, Envoy and an aiohttp proxy (about 13 minutes)
	@$(call have,nginx,nginx-light)
	@$(call have,haproxy,haproxy)
	@$(call have,wrk,wrk)
	@$(call have,valgrind,valgrind)
	.venv-bench/bin/python benchmarks/all.py $(ARGS)

lock: .venv/.dev ## Pin and hash what pyproject.toml asks for; ARGS=--upgrade takes the newest
	$(LOCK) $(ARGS) -o requirements/base.lock
	for extra in analytics demo dev bench; do $(LOCK) $(ARGS) --extra $$extra -o requirements/$$extra.lock || exit; done
	$(LOCK) $(ARGS) --extra dev --extra spark -o requirements/spark.lock

generated: .venv/.dev ## Schema, example, rollback profile and docs/toggles_spec.md, from the catalogue of toggles
	$(BIN)/python -m proxy.settings.toggle_files

clean: ## Remove what was made here, .venv too
	rm -rf .venv .venv-spark .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Which lock file is installed is remembered inside .venv, so that it goes with it.
.venv/.%: requirements/%.lock pyproject.toml .venv/.made
	$(call fill,.venv)

# PySpark is ten times the rest: nobody gets it who does not ask.
.venv-spark/.spark: requirements/spark.lock pyproject.toml
	$(call venv,$(PYTHON),.venv-spark)
	$(call fill,.venv-spark)

# Another interpreter is another target, and makes it anew.
.venv-bench/.of%: requirements/bench.lock pyproject.toml
	rm -rf .venv-bench
	$(call venv,$(BENCH_PYTHON),.venv-bench)
	$(call fill,.venv-bench)

.venv/.made:
	$(call venv,$(PYTHON),.venv)
	@touch $@
