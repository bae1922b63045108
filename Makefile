# make tour    sets everything up, explains a photograph, writes tour/index.html
# make app     sets everything up, opens the microscope in the browser
# make test    sets everything up, development tools included, and runs the tests
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PHOTO ?=
MODEL ?= bundled
unexport PYTHONDONTWRITEBYTECODE

.PHONY: tour app setup setup-dev check test test-all pins clean

tour: setup
	@$(BIN)/convscope tour $(if $(PHOTO),"$(PHOTO)") --model "$(MODEL)" --force

app: .venv/ready-app
	@$(BIN)/convscope app --model "$(MODEL)"

setup: .venv/ready
setup-dev: .venv/ready-dev

.venv/uv:
	@test -n "$(PYTHON)" || { echo "convscope needs Python 3.11 or newer; say where it is: make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

.venv/ready: .venv/uv pins.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraints pins.txt --editable .
	@touch $@

.venv/ready-app: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraints pins.txt --editable '.[app]'
	@touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraints pins.txt --group dev --editable .
	@touch $@

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup-dev
	$(PYTEST)

test-all: setup-dev
	$(PYTEST) -m 'slow or browser'

# Every package at one version, with hashes and without addresses.
pins: .venv/uv
	$(BIN)/uv lock --quiet --upgrade
	$(BIN)/uv export --quiet --no-emit-project --no-annotate --no-header --all-extras --all-groups --output-file pins.txt
	rm uv.lock

clean:
	rm -rf .venv tour
