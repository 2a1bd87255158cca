.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# What the demo needs is installed, and everything is
RUNNABLE := .venv/.demo
INSTALLED := .venv/.installed
# Debian ships Python without what makes an environment
VENV_PACKAGE = { apt-get -qq update && apt-get -qq -y --no-install-recommends install python3-venv; } >/dev/null 2>&1 \
	|| { echo "$(PYTHON) cannot make a virtual environment; install it: apt-get install python3-venv" >&2; exit 1; }

# A lock file is complete: no dependency is resolved. What is not compiled now is when it is imported for the first time.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile
LOCKED := $(PIP) --require-hashes -r

# The tests open emails in a real browser
CHROMIUM = command -v chromium >/dev/null \
	|| { apt-get -qq update && apt-get -qq -y --no-install-recommends install chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	|| { echo "the tests need Chromium; install it: apt-get install chromium" >&2; exit 1; }

# The tests check the alert rules with Prometheus's own tool, of whose package only that is taken: no server is installed
PROMTOOL = command -v promtool >/dev/null || [ -x $(BIN)/promtool ] \
	|| { mkdir -p .venv/prometheus && cd .venv/prometheus && { apt-get -qq update; apt-get -qq download prometheus; } \
		&& dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >../bin/promtool \
		&& chmod +x ../bin/promtool; } >/dev/null 2>&1 \
	|| { rm -f $(BIN)/promtool; echo "the tests need promtool; install it: apt-get install prometheus" >&2; exit 1; }

# `make test SERVERS=latest`, and every other command with servers: they are those of Debian 13 in place of this machine's
ON_SERVERS = $(if $(SERVERS),$(if $(filter latest,$(SERVERS)),tests/support/latest_servers.sh in,$(error SERVERS is "$(SERVERS)"; the only other set is: SERVERS=latest)))
WITH_SERVERS = $(ON_SERVERS) $(BIN)/python
# What depends on how servers behave, and so on their version
SERVER_TESTS := tests/contract $(addprefix tests/integration/test_,$(addsuffix .py,broker_versions topology delivery inbox \
	publishers publishing group_commit job_executor retries dead_letters external_queue migrations)) \
	$(addprefix tests/faults/test_,$(addsuffix .py,crashes))

# Universal: one file for every supported Python, with environment markers. Hashes pin the files; the machine's own pip
# decides where they are downloaded from.
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version=3.11.0 --generate-hashes --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links

# Texts: templates are in emails.po, consumers/<group> in <group>.po
CATALOGUES := $(sort $(basename $(notdir $(wildcard templates/locale/*/LC_MESSAGES/*.po))))
LOCALES := $(notdir $(wildcard templates/locale/*))
BABEL := mkdir -p .pocketwatch && $(BIN)/python -m babel.messages.frontend -q
EXTRACT := --mapping-file=templates/babel.cfg --keywords=gettext_noop --ignore-dirs='.*' --add-location=file --sort-by-file --no-wrap
UPDATE := --output-dir=templates/locale --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --no-wrap

RENEW_DOCS = PYTHONPATH=. $(BIN)/python docs/tables.py \
	&& $(BIN)/python -m pocketwatch docs asyncapi --output docs/asyncapi.json \
	&& $(BIN)/python -m pocketwatch docs schemas --output docs/schemas

.PHONY: help install demo test test-latest test-compose up check faults faults-cluster mutants clocks hostile model soak overload bench new-job messages docs lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## make .venv with everything pinned

$(RUNNABLE): requirements-demo.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "installing the $$(grep -c == requirements-demo.lock) packages of requirements-demo.lock into .venv"
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { [ ! -L .venv ] && $(VENV_PACKAGE) && $(PYTHON) -m venv --clear .venv; }
	@$(LOCKED) requirements-build.lock
	@$(LOCKED) requirements-demo.lock
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(INSTALLED): $(RUNNABLE) requirements-dev.lock
	@echo "installing the $$(grep -c == requirements-dev.lock) packages of requirements-dev.lock into .venv"
	@$(LOCKED) requirements-dev.lock
	@$(BIN)/python -m compileall -qq --workers=0 .venv/lib || true # some packages have files for other versions of Python
	@touch $@

demo: $(RUNNABLE) ## servers, a small marketplace, every job once, and a table of what happened
	@$(WITH_SERVERS) -m demo

test: $(INSTALLED) ## the whole test suite, on real servers that it starts itself; SERVERS=latest: on RabbitMQ 4, PostgreSQL 17, Redis 8
	@$(CHROMIUM)
	@$(PROMTOOL)
	@$(WITH_SERVERS) -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(TESTS)

test-latest: ## what depends on the servers' versions, on the latest ones
	@$(MAKE) --no-print-directory test SERVERS=latest TESTS="$(SERVER_TESTS)"

# A Docker engine that runs is used, or else one that ends with the tests
test-compose: $(INSTALLED) ## compose.yaml in containers: all services, a job, kills; as root, in minutes
	@docker info >/dev/null 2>&1 || engine='tests/support/compose_engine.sh in'; \
		$$engine $(BIN)/python -m pytest -v -s -m compose tests/journeys/test_containers.py

overload: $(INSTALLED) ## a backlog, a slow database and alarms of the broker: make overload MESSAGES=200000
	@$(WITH_SERVERS) -m pytest -q --timeout=0 --messages=$(or $(MESSAGES),200000) tests/faults/test_overload.py

soak: $(INSTALLED) ## steady load, every connection cut every EVERY seconds: make soak MINUTES=15 EVERY=30
	@$(WITH_SERVERS) -m pytest -qs --timeout=0 --soak=$$(( $(or $(MINUTES),15) * 60 )) --cut-every=$(or $(EVERY),30) tests/faults/test_soak.py

up: $(RUNNABLE) ## servers, publishers and consumers in the foreground, until Ctrl-C
	@$(WITH_SERVERS) -m demo --stay

check: $(INSTALLED) ## format, lint, types, import rules
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

clocks: $(INSTALLED) ## fires at every change of the clocks from 2000 to 2037, in every time zone
	@$(BIN)/python -m tests.support.clock_changes

hostile: $(INSTALLED) ## random hostile messages over every queue: make hostile COUNT=10000 SEED=7
	@COUNT=$(or $(COUNT),10000) SEED=$(or $(SEED),1) $(WITH_SERVERS) -m pytest -s tests/integration/test_hostile_flood.py

model: $(INSTALLED) ## the executors against a model, in random orders: make model EXAMPLES=500 SEED=7
	@EXAMPLES=$(or $(EXAMPLES),500) $(WITH_SERVERS) -m pytest --hypothesis-seed=$(or $(SEED),1) tests/integration/test_worker_model.py

faults: $(INSTALLED) ## the fault matrix: every fault at every step boundary; make faults CELLS='relay.*kill'
	@$(WITH_SERVERS) -m tests.faults.matrix '$(CELLS)'

mutants: $(INSTALLED) ## weaken each guarantee, and see that a test fails
	@$(WITH_SERVERS) -m tests.mutants

faults-cluster: $(INSTALLED) ## faults of a RabbitMQ cluster under load, and their figures: make faults-cluster EVENTS=20000
	@$(WITH_SERVERS) -m pytest --quiet --capture=no -m cluster tests/faults/test_cluster.py --events=$(or $(EVENTS),20000)

bench: $(INSTALLED) ## side-by-side tables against the peers
	@$(LOCKED) requirements-bench.lock
	@$(WITH_SERVERS) -m bench

new-job: $(INSTALLED) ## the files of a new job: make new-job NAME=views.purge
	@$(BIN)/python -m scaffold.new_job "$$NAME"
	@$(RENEW_DOCS)

messages: $(INSTALLED) ## collect the texts of templates and code into the catalogues of templates/locale
	@for catalogue in $(CATALOGUES); do \
		folder=consumers/$$catalogue; [ $$catalogue != emails ] || folder=templates; \
		$(BABEL) extract $(EXTRACT) --output-file=.pocketwatch/$$catalogue.pot $$folder || exit; \
		for locale in $(LOCALES); do \
			$(BABEL) update $(UPDATE) --domain=$$catalogue --locale=$$locale --input-file=.pocketwatch/$$catalogue.pot || exit; \
		done; \
	done

docs: $(INSTALLED) ## renew what follows from the code: the tables of docs/jobs.md, the contracts of the messages
	@$(RENEW_DOCS)

lock: ## renew the lock files from pyproject.toml
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install -qq --disable-pip-version-check uv
	@$(COMPILE) --upgrade --extra=dev --extra=bench --output-file=requirements-bench.lock pyproject.toml
	@$(COMPILE) --extra=dev --constraint=requirements-bench.lock --output-file=requirements-dev.lock pyproject.toml
	@$(COMPILE) --extra=demo --constraint=requirements-dev.lock --output-file=requirements-demo.lock pyproject.toml
	@$(COMPILE) --extra=otel --constraint=requirements-demo.lock --output-file=requirements.lock pyproject.toml
	@$(COMPILE) --upgrade --constraint=requirements-bench.lock --group=build --output-file=requirements-build.lock
	@rm -rf .venv-lock

clean: ## stop what runs here and remove everything that was made
	@[ ! -x $(BIN)/pocketwatch ] || $(BIN)/pocketwatch stack down --wipe
	@rm -rf .venv .pocketwatch /dev/shm/pocketwatch-"$$(printf %s "$(CURDIR)" | sha256sum | cut -c1-10)"-*
