# Everything below works in a virtual environment of its own, made on first use.

PYTHON ?= python3
BIN := .venv/bin
COMPILED := setup.py $(shell find tap2tap -name '*.pxd' -o -name '*.pyx') $(patsubst %.pxd,%.py,$(shell find tap2tap -name '*.pxd'))

# What root builds (sudo make demo) belongs to whom the checkout belongs to, so that this user can go on from there.
UID := $(shell stat -c %u .)
ifeq ($(shell id -u)$(filter-out 0,$(UID)),0$(UID))
AS_OWNER := setpriv --reuid=$(UID) --regid=$(shell stat -c %g .) --clear-groups \
	env HOME=$(shell getent passwd $(UID) | cut -d: -f6)
endif
PIP := $(AS_OWNER) $(BIN)/pip --quiet --quiet --disable-pip-version-check
MAY_BUILD := @$(AS_OWNER) test -w $(firstword $(wildcard .venv) .) || { \
	echo "cannot build here as this user: let root run 'make .venv/dev' first" >&2; exit 1; }

.PHONY: demo test test-interpreted test-install lint format bench clean

demo: .venv/built
	$(BIN)/tap2tap demo

test: .venv/dev
	$(BIN)/python -m pytest -n auto $(TESTS)

# The same with the sources of the data plane, even where it is compiled.
test-interpreted: .venv/dev
	$(BIN)/python -m pytest -n auto --interpreted $(TESTS)

# Builds and installs the package in every way, beside versions of the dependencies that Debian has: needs an index.
test-install: .venv/dev
	$(BIN)/python -m pytest -m install tests/packaging

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/dev
	$(BIN)/python -m tests.bench $(BENCH)

# What builds the package stands in the environment, so that a change of the data plane is compiled in seconds.
.venv/ready: pyproject.toml
	$(MAY_BUILD)
	$(AS_OWNER) $(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1' 'setuptools>=77' 'Cython>=3.1'
	TAP2TAP_INTERPRETED=1 $(PIP) install --no-build-isolation --editable . # compiled below, where it is seen
	@$(AS_OWNER) touch $@

.venv/built: .venv/ready $(COMPILED)
	$(MAY_BUILD)
	@$(AS_OWNER) $(BIN)/python setup.py --quiet build_ext --inplace
	@$(AS_OWNER) touch $@

.venv/tools: .venv/ready
	$(MAY_BUILD)
	$(PIP) install --group dev
	@$(AS_OWNER) touch $@

.venv/dev: .venv/built .venv/tools
	$(MAY_BUILD)
	@$(AS_OWNER) touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find tap2tap -name '*.so' -delete
