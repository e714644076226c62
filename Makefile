# Every target makes what it needs in $(VENV); nothing outside it is touched.
VENV   ?= .venv
PYTHON ?=
ARGS   ?=

# What `make cover` asks of branch coverage, and how many processes it runs on.
COVERAGE_MIN ?= 90
JOBS         ?= 3

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP   := $(BIN)/python -m pip --disable-pip-version-check -qq

# Tests and checks see none of the caller's services, secrets and proxies.
SERVICE_VARIABLES := $(filter \
	SIGNALPOST_% OPS_TELEGRAM_% HMAC_% OUTBOUND_% FLOWER_% CELERY_% PG% \
	DATABASE_URL REDIS_URL SECRET_KEYS PRODUCER_ID MAX_RETRIES RETRY_DELAY_SECONDS \
	SIGNAL_TTL_SECONDS RETENTION_DAYS SHUTDOWN_SECONDS HEARTBEAT_URL METRICS_PORT METRICS_ADDRESS \
	PROCESS_INDEX LOG_FORMAT REDIS_CA_FILE \
	HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy, \
	$(.VARIABLES))
# Compiled files are kept: the tests start some two hundred processes.
CLEAN := env -u PYTHONDONTWRITEBYTECODE $(addprefix -u ,$(SERVICE_VARIABLES))

.DEFAULT_GOAL := help
.PHONY: help demo up test cover chaos bench check fmt docs screenshots lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## show a strategy's signals being delivered, retried and alerted, on real servers
	@$(BIN)/signalpost demo $(ARGS)
	@echo "next: source $(BIN)/activate, then docs/quick-start.md"

up: $(STAMP) ## run the whole stack in this terminal
	@$(BIN)/signalpost up $(ARGS)

# Side by side: tests wait a lot, and the checks take only what they leave.
test: $(STAMP) ## run every check and every test
	@nice $(MAKE) --no-print-directory check & checked=$$!; \
		$(CLEAN) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS); tested=$$?; \
		wait $$checked && exit $$tested

cover: check ## run every test and count branch coverage, worker processes included (slow)
	@$(CLEAN) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --cov --cov-report=term \
		--cov-fail-under=$(COVERAGE_MIN) $(ARGS)

chaos: $(STAMP) ## break everything for MINUTES=5 by SEED=n, and hold all ledgers together
	@$(CLEAN) $(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(STAMP) ## measure signalpost beside its peers (QUICK=1: in 3 minutes); peers are installed once
	@$(CLEAN) $(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(ARGS)

check: $(STAMP) ## lint, format, types and generated pages, without changing a file
	@failed=; \
		$(BIN)/ruff check -q . || failed=1; \
		$(BIN)/ruff format -q --check . || failed=1; \
		$(CLEAN) $(BIN)/mypy --no-error-summary || failed=1; \
		$(BIN)/python docs/write_settings.py --check || failed=1; \
		test -z "$$failed" || { echo "make fmt mends what can be mended by itself" >&2; exit 1; }

fmt: $(STAMP) ## format the code, mend what ruff can mend, write the pages made from code
	@$(BIN)/ruff check -q --fix-only .
	@$(BIN)/ruff format -q .
	@$(BIN)/python docs/write_settings.py

docs: $(STAMP) ## build the documentation into build/docs; a warning is an error
	@$(CLEAN) $(BIN)/python -m sphinx -q -W --keep-going -j auto -c docs . build/docs $(ARGS)
	@echo "open build/docs/docs/index.html"

screenshots: $(STAMP) ## take the README's pictures anew, of a demo that runs; Flower's needs Chromium
	@$(CLEAN) $(BIN)/python -m docs.write_pictures

lock: $(STAMP) ## resolve requirements*.lock anew (ARGS=--upgrade moves the pins)
	@$(PIP) install uv==0.13.9
	@$(LOCK) --extra stack --group dev --group docs -o requirements.lock $(ARGS) pyproject.toml
	@$(LOCK) --extra image -c requirements.lock -o requirements-image.lock pyproject.toml
	@$(LOCK) --group build -c requirements.lock -o requirements-build.lock

clean: ## remove the virtual environment and everything that tools left behind
	@rm -rf $(VENV) build dist htmlcov .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find $(wildcard app worker migrations tests docs) -name __pycache__ -type d -prune -exec rm -rf {} +

# No host names in the lock files: whoever installs brings an index of their own.
LOCK = $(BIN)/uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'

# Compiled on all cores, which pip does on one; what is not meant for this Python is left as it is.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || { $(FIND_PYTHON); echo "Setting up $(VENV) (once, about a minute)" \
		&& $$found -m venv $(VENV); }
	@$(PIP) install --no-compile --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

# The first interpreter that runs and is new enough; a version manager's shim may do neither.
define FIND_PYTHON
found=; for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	if $$candidate -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		found=$$candidate; break; fi; done; \
	test -n "$$found" || { \
		echo "signalpost needs Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
endef
