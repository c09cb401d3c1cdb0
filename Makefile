# `make` alone prints the targets. Everything they need is set up in .venv, and again when pyproject.toml changes.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

VENV := .venv
BIN := $(VENV)/bin
# PYTHON=python3.12 chooses an interpreter; without it the newest suitable one is found.
PYTHON ?=
# ARGS="-k lease -x" is passed on to pytest, the site or the benchmark.
ARGS ?=

##@ See it

.PHONY: demo
demo: $(VENV)/.installed  ## see it work: a tour of the example site, with measured figures
	@$(BIN)/python example/demo.py

.PHONY: site
site: $(VENV)/.installed  ## try it yourself: the example site in your browser (ARGS=8080 names a port)
	@$(BIN)/python example/serve.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.installed-dev  ## measure throughput and latency here
	@$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: bench-requests
bench-requests: $(VENV)/.installed-dev  ## measure what a server's requests feel of its embedded worker
	@$(BIN)/python -m benchmarks.requests $(ARGS)

.PHONY: bench-concurrent
bench-concurrent: $(VENV)/.installed-dev  ## measure concurrency inside a request, side by side with what is usual
	@$(BIN)/python -m benchmarks.concurrent $(ARGS)

.PHONY: bench-leaks
bench-leaks: $(VENV)/.installed-dev  ## count the connections that are open after thousands of requests
	@$(BIN)/python -m benchmarks.leaks $(ARGS)

.PHONY: bench-servers
bench-servers: $(VENV)/.installed-dev  ## measure requests per second of serve and of other servers (needs wrk)
	@$(BIN)/python -m benchmarks.servers $(ARGS)

.PHONY: bench-plots
bench-plots: $(VENV)/.installed-dev  ## draw the documentation's figures from what these have measured
	@$(BIN)/python -m pip install --quiet --quiet --group bench
	@$(BIN)/python -m benchmarks.plot $(ARGS)

##@ Work on it

.PHONY: test
test: $(VENV)/.installed-dev  ## run the tests on SQLite and PostgreSQL (ARGS="-k lease -x")
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not alone" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

.PHONY: lint
lint: $(VENV)/.installed-dev  ## check the style, the formatting and the floors
	@$(BIN)/ruff check --output-format concise
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.installed-dev  ## repair what can be repaired of style and formatting
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: types
types: $(VENV)/.installed-dev  ## check the types
	@$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/.installed-dev  ## build the documentation; a warning is an error
	@$(BIN)/sphinx-build -W --keep-going -n -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: venv
venv: $(VENV)/.installed-dev  ## set up .venv for development (PYTHON=python3.12 chooses the interpreter)

.PHONY: clean
clean:  ## remove all that was set up or built
	rm -rf $(VENV) .ci-venvs build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## print this
	@awk 'BEGIN { FS = ":.*  ## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*  ## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- .venv ---

# Another PYTHON than the one that .venv was made with, or an interpreter that is gone: make it anew.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(BIN)/python -c 'print("works")' 2>/dev/null),works)
$(VENV)/.made: remake
else ifneq ($(PYTHON),)
ifneq ($(shell cat $(VENV)/.made 2>/dev/null),$(PYTHON))
$(VENV)/.made: remake
endif
endif
endif

.PHONY: remake
remake:

$(VENV)/.made: tools/find-python
	@python=$$(sh tools/find-python $(PYTHON)) || exit 1; \
	echo "setting up $(VENV) with $$($$python --version) ($$python)"; \
	rm -rf $(VENV) && $$python -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "this Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "$(PYTHON)" > $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	@echo "installing django-meanwhile and what it needs"
	@$(BIN)/python -m pip install --quiet --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.made
	@echo "installing django-meanwhile and the tools to develop it"
	@$(BIN)/python -m pip install --quiet --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --quiet --editable '.[postgresql]' --group dev
	@touch $(VENV)/.installed $@
