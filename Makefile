# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install bench clean

demo: install
	$(BIN)/arraysmith demo -o runs/lenet5

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/arraysmith data mnist || test -z "$$ARRAYSMITH_TEST_ALL"
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/mapper.py
	$(BIN)/python benchmarks/problem_p.py --walk
	$(BIN)/python benchmarks/physical_front.py
	$(BIN)/python benchmarks/search_strategies.py
	$(BIN)/python benchmarks/peers.py

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv runs
