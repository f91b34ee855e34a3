# The commands of this project. `make help` lists them.
# The environment is `.venv`; it comes from requirements.lock alone. PYTHON=… chooses another Python (3.11 to 3.13).

PYTHON ?=
# One worker more than there are cores, since many tests wait for servers and processes. At most four: each may load a model.
WORKERS := $(shell cores=`getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1`; test "$$cores" -lt 4 && echo $$((cores + 1)) || echo 4)
PYTEST_ARGS ?= -n $(WORKERS) --dist worksteal

SHELL := /bin/sh
BIN := .venv/bin
# Large wheels over slow lines.
UV_HTTP_TIMEOUT ?= 180
PIP_DEFAULT_TIMEOUT ?= 180
PIP_DISABLE_PIP_VERSION_CHECK := 1
UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_DISABLE_PIP_VERSION_CHECK UV_PYTHON_DOWNLOADS
# What another environment left in the shell must not reach into this one: nor that nothing compiled is kept, which makes
# every process compile all of its libraries again and the tests take half as long again.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

# The stamp holds the folder it was made in: an environment that was moved, or whose Python is gone, is made again.
STANDS := $(shell test "`cat .venv/.complete 2>/dev/null`" = "`pwd -P`" && $(BIN)/python -c 'print(1)' 2>/dev/null)
ifneq ($(STANDS),1)
.PHONY: .venv/.complete
endif

.PHONY: help env demo test servers lint types bench soak docs reference clean lock
.DEFAULT_GOAL := help

help:
	@echo "make demo    speakerdb's main job on real speech, in the folder .demo   (BACKEND=servers: on PostgreSQL and OpenSearch)"
	@echo "make test    lint, types, layers, and the whole test suite   (PYTEST_ARGS=... for pytest)"
	@echo "make servers a real PostgreSQL and OpenSearch on this machine, without Docker, until Ctrl-C"
	@echo "make env     the environment .venv                           (PYTHON=... for another Python)"
	@echo "make lint    ruff and import-linter"
	@echo "make types   mypy"
	@echo "make bench   the benchmarks; writes benchmarks/results/latest.json"
	@echo "make soak    services that are killed at 1,000 random points  (BACKEND=servers, POINTS=10000, SEED=...)"
	@echo "make docs    the documentation as a site, in the folder site"
	@echo "make reference   the pages of docs/reference, from the code"
	@echo "make lock    bring requirements.lock up to pyproject.toml    (LOCK_ARGS=--upgrade for newer versions)"
	@echo "make clean   remove .venv, .demo, site and caches"

env: .venv/.project

# Everything that is not this project. A new lock makes a new environment, so that nothing of the old one stays in it.
.venv/.complete: requirements.lock
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		if "$$candidate" -c "$$fits" >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "speakerdb needs Python 3.11, 3.12 or 3.13; $(or $(PYTHON),python3) is `"$(or $(PYTHON),python3)" --version 2>&1 || true`." >&2; \
		echo "Name one: make PYTHON=/path/to/python3.12 $(or $(MAKECMDGOALS),env)" >&2; \
		exit 1; \
	fi; \
	rm -rf .venv; \
	if ! "$$python" -m venv .venv; then \
		echo "$$python could not make .venv: it needs its module venv (on Debian and Ubuntu the package python3-venv)." >&2; \
		exit 1; \
	fi; \
	if uv --version >/dev/null 2>&1; then uv=uv; else \
		echo "uv is not installed here: installing it into .venv"; \
		awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' requirements.lock >.venv/uv.txt; \
		uv=.venv/bin/uv; \
		$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt || uv=false; \
	fi; \
	if cache=`$$uv cache dir 2>/dev/null` && mkdir -p "$$cache" 2>/dev/null && [ -w "$$cache" ]; then :; else \
		UV_CACHE_DIR=.venv/cache; export UV_CACHE_DIR; \
	fi; \
	echo "installing `grep -c '==' requirements.lock` pinned packages into .venv with `$$python --version`: a minute or a few, 5 GB on Linux"; \
	if ! $$uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; then \
		echo "uv could not install them (above); trying pip, which takes longer"; \
		$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock; \
	fi; \
	rm -rf .venv/cache; \
	pwd -P >.venv/.complete

# This project, as the folder it lies in. Its build backend is in the lock, so nothing is fetched here.
.venv/.project: .venv/.complete pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch .venv/.project
	@echo ".venv is ready"

# `make demo BACKEND=servers`: on a real PostgreSQL and OpenSearch, which are started for it and end with it.
ifeq ($(BACKEND),servers)
ON_BACKEND := $(BIN)/python -m speakerdb.testing.servers run --
DEMO_ARGS := --servers
endif

demo: env
	@case '$(BACKEND)' in ''|servers) ;; *) echo "BACKEND is servers, or nothing: SQLite and the embedded index" >&2; exit 2;; esac
	@$(ON_BACKEND) $(BIN)/speakerdb demo --dir .demo $(DEMO_ARGS)

# Fetched before the tests, who see no network. Where that fails they say what was not tested, and on CI they fail.
test: lint types
	@$(BIN)/python -m speakerdb.testing.servers --fetch || true
	$(BIN)/python -m pytest $(PYTEST_ARGS)

servers: env
	@$(BIN)/python -m speakerdb.testing.servers

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: env
	$(BIN)/mypy

bench: env
	@$(BIN)/python -m benchmarks

# Goes on where it was ended: what a seed has met stands in benchmarks/results/soak.json.
soak: env
	@$(BIN)/python -m speakerdb.testing.chaos --points $(or $(POINTS),1000) --backend $(or $(BACKEND),files) --seed $(or $(SEED),1)

# Strict: a link or an anchor that leads nowhere is an error.
docs: env
	@$(BIN)/mkdocs build --strict --quiet --clean
	@echo "site/index.html is ready"

reference: env
	@$(BIN)/python docs/generate.py

lock: env
	@if uv --version >/dev/null 2>&1; then uv=uv; else uv=$(BIN)/uv; fi; \
	$$uv pip compile --quiet $(LOCK_ARGS) pyproject.toml --extra dev --extra int8 --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file requirements.lock
	@echo "requirements.lock is new; the next command makes .venv from it"

clean:
	rm -rf .venv .demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
