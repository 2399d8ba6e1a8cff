# Every target makes what it needs in a local virtual environment, .venv-<major.minor> of PYTHON, and installs only
# when pyproject.toml or constraints.txt is newer than the last installation.

PYTHON  ?= python3
ARGS    ?=
# Test processes side by side (pytest-xdist); 0 runs the tests in one process.
WORKERS ?= 2
# UPGRADE=1 lets `make constraints` move every pin; without it only what pyproject.toml changed moves.
UPGRADE ?=

VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV    := .venv-$(VERSION)
BIN     := $(VENV)/bin
INPUTS  := pyproject.toml constraints.txt
# One that is written out would end an argument of $(call ...).
COMMA   := ,
PIP     := "$(BIN)/python" -m pip --disable-pip-version-check
# pyright's wrapper otherwise asks npm's registry for a newer version at every start.
PYRIGHT := PYRIGHT_PYTHON_IGNORE_WARNINGS=1 "$(BIN)/python" -m pyright --pythonpath "$(BIN)/python"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test slow lint format bench constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo '  Settings: PYTHON=/path/to/python3.12   ARGS="..." (run, bench, test, slow)   WORKERS=0|2|... (test, slow)'

run: $(VENV)/.stamp-run ## the first experiment: what a GAN's loss says beside the true value (ARGS="--help")
	"$(BIN)/python" experiments/loss_vs_value.py --overwrite $(ARGS)

test: $(VENV)/.stamp-dev ## the tests, without the slow ones
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

slow: $(VENV)/.stamp-slow ## the tests marked slow
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist worksteal -m slow $(ARGS)

lint: $(VENV)/.stamp-dev ## ruff check, ruff format --check, pyright; changes nothing
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .
	@echo pyright; $(PYRIGHT)

format: $(VENV)/.stamp-dev ## ruff format, and the fixes that ruff calls safe
	"$(BIN)/python" -m ruff check --fix-only .
	"$(BIN)/python" -m ruff format .

bench: $(VENV)/.stamp-bench ## throughput beside PyTorch (installs torch: a large download)
	"$(BIN)/python" benchmarks/throughput.py $(ARGS)

constraints: ## write constraints.txt anew from pyproject.toml (UPGRADE=1: newest versions)
	$(call check_python)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	"$(PYTHON)" -m venv "$$dir/venv" && "$$dir/venv/bin/python" -m pip -q --disable-pip-version-check install uv && \
	cp constraints.txt "$$dir/constraints.txt" && \
	"$$dir/venv/bin/uv" pip compile -q --universal --python-version 3.11 --no-header --no-annotate --extra dev --extra ray \
		$(if $(UPGRADE),--upgrade) --output-file "$$dir/constraints.txt" pyproject.toml && \
	if grep -nE '://|^ *-' "$$dir/constraints.txt"; then \
		echo 'constraints: an address or an option got into the output; constraints.txt is left as it was' >&2; exit 1; fi && \
	{ cmp -s "$$dir/constraints.txt" constraints.txt || cat "$$dir/constraints.txt" > constraints.txt; } && echo "constraints.txt: $$(grep -c == constraints.txt) pins"

clean: ## remove the virtual environments and the caches
	rm -rf .venv-[0-9]* .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up: one stamp for each set of packages; dev and bench contain what run needs

$(VENV)/.stamp-run: $(INPUTS)
	$(call install,.,about a minute)
	@touch "$@"

$(VENV)/.stamp-dev: $(INPUTS)
	$(call install,.[dev],about a minute and a half)
	@touch "$@" "$(VENV)/.stamp-run"

$(VENV)/.stamp-slow: $(INPUTS)
	$(call install,.[dev$(COMMA)ray],two minutes: Ray is large)
	@touch "$@" "$(VENV)/.stamp-dev" "$(VENV)/.stamp-run"

$(VENV)/.stamp-bench: $(INPUTS)
	$(call install,.[bench],several minutes: PyTorch is large)
	@touch "$@" "$(VENV)/.stamp-run"

define install
$(call check_python)
@"$(BIN)/python" -c 'import pip' 2>/dev/null || \
	{ echo 'making $(VENV) with $(PYTHON)'; "$(PYTHON)" -m venv --clear "$(VENV)"; }
@echo 'setting up $(VENV) with $(1) ($(2)) ...'
@$(PIP) install --quiet --constraint constraints.txt --editable '$(1)' || \
	{ echo 'setting up $(VENV) failed: the lines above are pip'"'"'s' >&2; exit 1; }
endef

define check_python
@"$(PYTHON)" -c '' 2>/dev/null || { \
	echo 'gandyn needs Python 3.11 or newer, and "$(PYTHON)" does not start.' >&2; \
	echo 'Install Python (Debian, Ubuntu: apt install python3 python3-venv), or name one: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.12' >&2; \
	exit 1; }
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo 'gandyn needs Python 3.11 or newer; "$(PYTHON)" is $(VERSION).' >&2; \
	echo 'Install a newer one and name it: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.12' >&2; \
	exit 1; }
@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	echo 'Python $(VERSION) ("$(PYTHON)") cannot make virtual environments: its modules venv and ensurepip are missing.' >&2; \
	echo 'On Debian and Ubuntu: apt install python3-venv (or python$(VERSION)-venv). Or name another Python: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.12' >&2; \
	exit 1; }
endef
