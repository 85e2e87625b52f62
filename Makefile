# Everything below works in a virtual environment of its own, made on first use.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format bench profile clean

demo: .venv/ready
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

profile: .venv/dev
	$(BIN)/python -m tests.bench.profile $(PROFILE)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/dev: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
