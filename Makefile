# make tour    sets everything up, explains a photograph, writes tour/index.html
# make app     sets everything up, opens the microscope in the browser
# make test    sets everything up, development tools included, and runs the tests
# make test-lowest    runs the quick tests with the oldest packages that pyproject.toml allows
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
OLDEST = $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
LOWEST := .venv/lowest
EXTRAS := app,tiff,timm,umap,video
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PHOTO ?=
MODEL ?= bundled
unexport PYTHONDONTWRITEBYTECODE

# Tests of what the lower bounds can break: every method, every command, every kind of file, no peers.
QUICK := tests/test_bands.py tests/loading tests/images tests/render tests/results tests/view tests/cli tests/report tests/test_contract.py

.PHONY: tour app setup setup-dev check test test-all test-lowest resolve pins clean

tour: setup
	@echo "Explaining a photograph, chapter by chapter:" >&2
	@$(BIN)/convscope tour $(if $(PHOTO),"$(PHOTO)") --model "$(MODEL)" --force

app: .venv/ready-app
	@echo "Starting the app; its address follows." >&2
	@$(BIN)/convscope app --model "$(MODEL)"

setup: .venv/ready
setup-dev: .venv/ready-dev

.venv/uv:
	@test -n "$(PYTHON)" || { echo "convscope needs Python 3.11 or newer; say where it is: make PYTHON=/path/to/python3"; exit 2; }
	@echo "Making .venv with $(PYTHON), and installing uv, which installs the rest" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

.venv/ready: .venv/uv pins.txt pyproject.toml
	@echo "Installing convscope into .venv: 3 GB to download, 6 GB on disk, most of it PyTorch" >&2
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraints pins.txt --editable .
	@touch $@

.venv/ready-app: .venv/ready
	@echo "Installing what the app needs into .venv: 50 MB to download, 150 MB on disk" >&2
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraints pins.txt --editable '.[app]'
	@touch $@

.venv/ready-dev: .venv/ready
	@echo "Installing the development tools into .venv: 250 MB to download, 900 MB on disk" >&2
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraints pins.txt --group dev --editable .
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

# Both ends of what pyproject.toml allows exist as wheels, for every Python that it names.
resolve: .venv/uv
	@for python in 3.11 3.12 3.13 3.14; do for end in lowest-direct highest; do \
		echo "Python $$python, $$end"; \
		$(BIN)/uv pip compile --quiet --no-header --only-binary :all: --python-version $$python \
			--resolution $$end --all-extras pyproject.toml >/dev/null || exit 1; done; done

# Old packages raise deprecation warnings about each other, which are no mistakes of this one.
test-lowest: resolve
	@$(OLDEST) -m venv --without-pip $(LOWEST)
	$(BIN)/uv pip install --python $(LOWEST)/bin/python --only-binary :all: --resolution lowest-direct \
		--group test --editable '.[$(EXTRAS)]'
	$(LOWEST)/bin/python -m pytest --numprocesses auto --maxprocesses 4 \
		-W ignore::DeprecationWarning -W ignore::FutureWarning $(QUICK)

# Every package at one version, with hashes and without addresses.
pins: .venv/uv
	$(BIN)/uv lock --quiet --upgrade
	$(BIN)/uv export --quiet --no-emit-project --no-annotate --no-header --all-extras --all-groups --output-file pins.txt
	rm uv.lock

clean:
	rm -rf .venv tour
