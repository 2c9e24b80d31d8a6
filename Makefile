# Works with GNU make 3.81 (macOS) and later, and a plain sh.

ifeq ($(OS),Windows_NT)
$(error Bindery runs on Linux and macOS. On Windows, run it inside WSL2: `wsl --install`, then `make up` in there)
endif

# Compiled modules are kept: without them every start of a service, and every worker of the tests, compiles all of them.
unexport PYTHONDONTWRITEBYTECODE

VENV = .venv/bin
RUN_TESTS = $(VENV)/python -m pytest
# As many workers as fit the machine (tests/conftest.py); JOBS=0 runs the tests one after another.
JOBS = auto
IN_PARALLEL = -n $(JOBS)
# Two files at once: tests that wait for half of their time, but start a whole stack or two hundred servers.
IN_PAIRS = -n $(if $(filter auto,$(JOBS)),2,$(JOBS))
ON_HUB5 = BINDERY_TEST_HUB_PYTHON=.venv/hub5/bin/python

.PHONY: help up url stop clean unit test watch coverage test-browser test-faults test-hubs test-docker test-cluster test-long load \
	format lint docs lock wheel images .venv-up .venv-dev

help:
	@echo 'While you work:'
	@echo 'make unit          the tests of single modules, in parallel'
	@echo 'make test T=...    one test or folder: make test T=tests/unit/docs/test_generate.py::test_every_picture_is_small ARGS="-x --pdb"'
	@echo 'make watch         run the tests of what you change, each time you save'
	@echo 'make format        format, and repair what the linter can'
	@echo 'make lint          format, lint, types, import rules'
	@echo
	@echo 'Bindery on this machine:'
	@echo 'make up            start it (Ctrl-C ends it; WITHOUT=gateway: you run that one by hand)'
	@echo 'make url           print the address of the running one, with the start token'
	@echo 'make stop          end it from elsewhere'
	@echo 'make clean         delete its data, after asking (FORCE=1: without)'
	@echo
	@echo 'Bindery on one machine with Docker (docs/compose.md):'
	@echo 'make compose-secrets  make .env and the secrets for docker-compose.yml; what exists stays'
	@echo
	@echo 'Bindery in a cluster:'
	@echo 'make hub-values    print Helm values for a hub of zero-to-jupyterhub (OPTIONS=--help)'
	@echo
	@echo 'All tests:'
	@echo 'make test          unit, contract and end-to-end tests (JOBS=1: with one worker)'
	@echo 'make coverage      which lines the unit tests reach (T=tests/e2e: other tests)'
	@echo 'make test-browser  the pages, in headless Chromium'
	@echo 'make test-faults   kill components, and check what happens'
	@echo 'make test-hubs     launches on real hubs, of JupyterHub 6 and of 5'
	@echo 'make test-docker   builds and servers on a container engine, which it starts if there is none (root)'
	@echo 'make test-cluster  builds and servers on Kubernetes: KUBECONFIG, else kind, k3d, or one of its own (root)'
	@echo 'make test-long     what is too long for each landing, of all tiers, with a table of outcomes (root)'
	@echo 'make load          measure (LOAD="--target URL" measures another one; LOAD=--help)'
	@echo
	@echo 'Container images (docs/images.md):'
	@echo 'make images        build them; PUSH=registry.example.org/x/ pushes them, too (TAG, IMAGES, BASE)'
	@echo
	@echo 'Generated files:'
	@echo 'make docs          write the pages made from the code, and a site of docs/'
	@echo 'make lock          pin the dependencies (UPGRADE=1: each to its newest version)'
	@echo 'make wheel         the command line and the Python client as a package, in dist/'

up: .venv-up
	@exec $(VENV)/python -m bindery up $(addprefix --without ,$(WITHOUT))

url:
	@if [ -x $(VENV)/python ]; then exec $(VENV)/python -m bindery url; else echo 'Bindery is not installed here (no .venv): `make up` starts it.'; exit 1; fi

stop:
	@if [ -x $(VENV)/python ]; then exec $(VENV)/python -m bindery stop; else echo 'Bindery was not running.'; fi

clean:
	@if [ -x $(VENV)/python ]; then exec $(VENV)/python -m bindery clean $(if $(filter 1 yes true,$(FORCE)),--force); \
	else echo 'Bindery is not installed here (no .venv): delete its data folder yourself, if there is one.'; fi

# It needs Python alone, so that a machine that runs only containers needs no environment for it.
.PHONY: compose-secrets
compose-secrets:
	@$(or $(PYTHON),python3) -m deploy.compose

# Standard output is the values alone.
.PHONY: hub-values
hub-values:
	@$(MAKE) --no-print-directory .venv-up >&2
	@exec $(VENV)/python -m bindery hub-values $(OPTIONS)

unit: .venv-dev
	@$(RUN_TESTS) $(IN_PARALLEL) $(ARGS) tests/unit

test: .venv-dev
	@$(RUN_TESTS) $(if $(T),$(ARGS) $(T),$(IN_PARALLEL) $(ARGS) tests/unit tests/contract tests/e2e tests/repositories)

watch: .venv-dev
	@$(VENV)/python -m tools.watch $(ARGS)

coverage: .venv-dev
	@$(RUN_TESTS) $(IN_PARALLEL) --cov --cov-report=term:skip-covered --cov-report=html $(ARGS) $(or $(T),tests/unit)
	@echo 'htmlcov/index.html'

test-browser: .venv-dev
	@$(RUN_TESTS) tests/browser

test-faults: .venv-dev
	@$(RUN_TESTS) $(IN_PAIRS) tests/faults

test-hubs: .venv-dev .venv/hub5/installed
	@$(RUN_TESTS) $(IN_PAIRS) tests/hubs
	@$(ON_HUB5) $(RUN_TESTS) $(IN_PAIRS) tests/hubs
	@$(ON_HUB5) $(RUN_TESTS) $(IN_PARALLEL) $(wildcard tests/contract/test_hub_*.py)

test-docker: .venv-dev .venv/hub5/installed
	@$(VENV)/python -m tests.support.compose_plugin
	@$(VENV)/python -m tests.support.engine run -- sh -ec '$(RUN_TESTS) tests/docker; \
	$(ON_HUB5) $(RUN_TESTS) tests/docker/test_docker_spawner.py'

test-cluster: .venv-dev .venv/hub5/installed
	@$(VENV)/python -m tests.support.cluster_start run -- sh -ec '$(RUN_TESTS) --timeout=600 tests/chart tests/cluster; \
	$(ON_HUB5) $(RUN_TESTS) --timeout=600 tests/cluster/test_kubespawner.py'

test-long: .venv-dev
	@$(RUN_TESTS) -m long $(ARGS) $(or $(T),tests)

load: .venv-dev
	@$(VENV)/python -m tests.load $(LOAD)

format: .venv-dev
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

lint: .venv-dev
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports

docs: .venv-dev
	@$(VENV)/python -m docs.generate
	@$(VENV)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_site
	@echo 'docs/_site/index.html'

# It needs no Python: make hands the variables that it is given (PUSH=...) to what it runs.
images:
	@sh deploy/images/build.sh

LOCK = $(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links pyproject.toml $(if $(UPGRADE),--upgrade)

# The images are without the command line: `bindery` is not installed in them, and nothing else needs these.
IN_IMAGES = $(addprefix --no-emit-package ,cyclopts docstring-parser markdown-it-py mdurl pygments rich rich-rst)

lock: .venv-dev
	@$(LOCK) --extra local --output-file requirements.lock
	@$(LOCK) --extra local --extra databases --group dev --constraints requirements.lock --output-file requirements-dev.lock
	@$(LOCK) --extra hub --extra databases --group hub5 --output-file requirements-hub5.lock
	@$(LOCK) $(IN_IMAGES) --extra hub --extra databases --constraints requirements.lock \
	--output-file deploy/images/hub/requirements.txt
	@$(LOCK) $(IN_IMAGES) --extra server --constraints requirements.lock --output-file deploy/images/service/requirements.txt
	@$(LOCK) $(IN_IMAGES) --extra server --extra kubernetes --constraints requirements.lock \
	--output-file deploy/images/builder/requirements.txt
	@$(VENV)/uv pip compile --quiet --python-platform linux --python-version 3.13 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links deploy/images/repo2docker/requirements.in $(if $(UPGRADE),--upgrade) \
	--output-file deploy/images/repo2docker/requirements.txt

# Without isolation: what builds the wheel is in the development lock, with its hashes.
wheel: .venv-dev
	@$(VENV)/uv build --quiet --wheel --no-build-isolation --python $(VENV)/python --out-dir dist

.venv-up:
	@PYTHON='$(PYTHON)' sh deploy/local/venv.sh requirements.lock

# JupyterHub 5 in an environment of its own, for the tests; made again when its lock has changed.
.venv/hub5/installed: requirements-hub5.lock | .venv-dev
	@$(VENV)/uv venv --quiet --clear --python $(VENV)/python .venv/hub5
	@$(VENV)/uv pip sync --quiet --require-hashes --python .venv/hub5/bin/python requirements-hub5.lock
	@touch $@

.venv-dev: .venv-up
	@PYTHON='$(PYTHON)' sh deploy/local/venv.sh requirements-dev.lock
