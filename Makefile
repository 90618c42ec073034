# ARGS goes to graycat or pytest: make test ARGS="-k stream"
PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help run test check lint types imports bench exporter format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUN_READY) ## Run everything on this machine: broker, web, worker, engine
	@exec $(BIN)/graycat up $(ARGS)

test: $(DEV_READY) ## Run the whole test suite
	@exec $(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

check: lint types imports test ## What CI runs

lint: $(DEV_READY) ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(DEV_READY) ## Check types
	@$(BIN)/mypy

imports: $(DEV_READY) ## Check who imports whom
	@$(BIN)/lint-imports

bench: $(DEV_READY) ## Measure against the bare engine; writes docs/performance.md
	@exec $(BIN)/python -m bench.run $(ARGS)

exporter: .venv-exporter/.ready ## Install the Celery exporter in an environment of its own

format: $(DEV_READY) ## Repair style and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: ## Pin the newest release of every dependency in constraints.txt
	$(require_python)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/python" -m pip install -q --disable-pip-version-check -e '.[embedded,dev]' && \
	{ sed '/^[^#]/,$$d' constraints.txt && "$$tmp/bin/python" -m pip freeze --exclude-editable; } > "$$tmp/constraints" && \
	cp "$$tmp/constraints" constraints.txt

clean: ## Remove what make made; var/ stays
	rm -rf $(VENV) .venv-exporter build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find celeryconfig.py graycat tests -name __pycache__ -prune -exec rm -rf {} +

.venv-exporter/.ready: monitoring/celery-exporter.txt
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-exporter
	@.venv-exporter/bin/python -m pip install -q --disable-pip-version-check -r monitoring/celery-exporter.txt
	@touch $@

define require_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "graycat needs Python 3.11 or newer and '$(PYTHON)' is not: name one with make PYTHON=python3.11 ..." >&2; exit 1; }
endef

$(RUN_READY): EXTRAS = embedded
$(DEV_READY): EXTRAS = embedded,dev

# The marks stand only while the venv is whole: they go before pip starts and come back when it has succeeded.
# A venv without one was cut short, so it is made anew. Ctrl-C waits for venv, which would answer with a traceback.
$(RUN_READY) $(DEV_READY): setup.cfg pyproject.toml constraints.txt
	$(require_python)
	@echo "graycat: installing into $(VENV) (first time only, a few minutes) ..."
	@{ ls $(VENV)/.ready-* && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || \
	{ trap '' INT; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $(RUN_READY) $(DEV_READY)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(RUN_READY) $@
