# Everything runs in .venv, which the first target that needs it builds from requirements.lock.
# Another Python: make PYTHON=python3.12 ...   Another index or mirror: pip's own configuration is respected.

FITS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c '$(FITS)' 2>/dev/null && echo "$$p" && break; done)

# The name holds what the environment is made from, so that it is rebuilt when that changes, and only then.
READY := .venv/.ready-$(shell { cat requirements.lock pyproject.toml; $(PYTHON) -V; } 2>&1 | cksum | cut -d' ' -f1)

# On Linux a plain `pip install torch` brings gigabytes of CUDA. PyTorch's own index has the CPU build of the same
# version; it is asked only where there is no NVIDIA GPU and the index can be reached. (A CPU wheel that pip already
# finds elsewhere, e.g. by find-links, wins too: 2.13.0+cpu sorts above 2.13.0.)
CPU_TORCH := https://download.pytorch.org/whl/cpu
REACHED := import urllib.request; urllib.request.urlopen("$(CPU_TORCH)/torch/", timeout=8)

.PHONY: help setup repro smoke full test lint ui board clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

repro: setup ## the whole benchmark in its default profile: data, training, measuring, leaderboard
	@.venv/bin/bench run

smoke: setup ## the same on a small slice, in .work/smoke: is everything in order?
	@.venv/bin/bench run --profile smoke

full: setup ## all tasks and three seeds, in .work/full: some hours more; stop and go on at any time
	@.venv/bin/bench run --profile full

verify: setup ## is the board true? what was just reproduced beside what is published
	@.venv/bin/bench verify

test: lint ## lint, types and all tests
	@.venv/bin/pytest

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

board: setup ## draw site/index.html from the committed records; runs nothing
	@.venv/bin/python -m pipelines.board

ui: setup ## MLflow's own pages of every run, on http://127.0.0.1:5000
	@.venv/bin/python -m pipelines.track
	@MLFLOW_DISABLE_TELEMETRY=true .venv/bin/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

clean: ## remove data, runs, the page and other profiles' folders; the environment and the records stay
	@rm -rf data runs site .work .pytest_cache .mypy_cache .ruff_cache .hypothesis

setup: $(READY)

$(READY):
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.10 to 3.13 with venv (Debian: apt install python3-venv), \
	found none. Install one, or name it: make PYTHON=/path/to/python ..." >&2; exit 2; }
	@$(PYTHON) -c '$(FITS)' || { echo "error: $(PYTHON) is not a Python 3.10 to 3.13 with venv." >&2; exit 2; }
	@test "$$(.venv/bin/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" || $(PYTHON) -m venv --clear .venv
	@echo "Setting up .venv with $$($(PYTHON) -V): some minutes, once."
	@index=; if [ "$$(uname)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 && $(PYTHON) -c '$(REACHED)' 2>/dev/null; \
	then index="--extra-index-url $(CPU_TORCH)"; fi; \
	.venv/bin/python -m pip install --no-deps $$index "$$(grep '^torch==' requirements.lock)" \
	&& .venv/bin/python -m pip install -r requirements.lock \
	&& .venv/bin/python -m pip install --no-deps -e . \
	|| { echo "error: installing failed, see above. Check the network and 'pip config list'; then run it again." >&2; exit 2; }
	@rm -f .venv/.ready-*; touch $@
