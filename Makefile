# Everything below works in a virtual environment of its own, made on first use.

PYTHON ?= python3
BIN := .venv/bin
COMPILED := setup.py $(shell find tap2tap -name '*.pxd' -o -name '*.pyx') $(patsubst %.pxd,%.py,$(shell find tap2tap -name '*.pxd'))

.PHONY: demo test lint format bench clean

demo: .venv/built
	$(BIN)/tap2tap demo

test: .venv/dev
	$(BIN)/python -m pytest -n auto $(TESTS)

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
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 'setuptools>=77' 'Cython>=3.1'
	touch $@

.venv/built: .venv/ready $(COMPILED)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable . 2>&1 | grep -v Warning || true
	touch $@

.venv/dev: .venv/built
	$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find tap2tap -name '*.so' -delete
