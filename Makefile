# Two commands: `make train` and `make test`. Each makes .venv, once, and installs what it needs.
CONFIG ?= configs/quickstart.yaml
ARGS ?=
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test lint bench bench-long faults clean

train: .venv/requirements.done
	$(BIN)/python train_mnist.py --config "$(CONFIG)" $(ARGS)

test: .venv/requirements-dev.done
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/requirements-dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Tables and pictures of docs/performance.md; the long one compares whole trainings, 5 to 90 minutes.
bench: .venv/requirements-bench.done .venv/requirements.done
	$(BIN)/python -m benchmarks

bench-long: .venv/requirements-bench.done
	$(BIN)/python -m benchmarks --long

# The table of docs/reliability.md, about an hour; as root, since it mounts.
faults: .venv/requirements-bench.done
	$(BIN)/python -m benchmarks.faults $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "Needs Python 3.11 to 3.13, found $$($(PYTHON) --version 2>&1): install one and call make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Needs Python's venv module: install it (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv

# The stamp holds the set-up: a second call installs nothing, a changed list of packages installs again.
.venv/%.done: %.txt requirements.txt constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $< --constraint constraints.txt
	touch $@

clean:
	rm -rf .venv
