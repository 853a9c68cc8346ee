# make demo: everything on a fresh machine, then the quickstart run.  make test: the same, then the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
TORCH = torch==2.13.0

.PHONY: demo test install lint benchmarks clean

demo: $(VENV)/.ready
	$(BIN)/gen run recipes/quickstart.toml
	@echo "open runs/quickstart/report.html"

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest -q -n 2

install: $(VENV)/.ready

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmarks: $(VENV)/.ready-test
	$(BIN)/python benchmarks/all.py

# torch first and exactly: a looser wish takes another build
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
