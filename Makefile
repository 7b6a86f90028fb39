# `make` explains the targets. Settings: PROFILE, BASE, WEIGHTS, DOWNLOAD, ESC50_ROOT, TEST_FOLD, VAL_FOLD,
# CLASSES, CORES, CLUSTER, PYTHON, LATEST_PYTHON; of `make evaluate` also DATA, ROOT, SUITE, PAIRS.

$(if $(filter-out Makefile,$(firstword $(MAKEFILE_LIST))),$(error run make in the folder of its Makefile: make -C FOLDER))

PROFILE ?= synthetic
BASE ?= $(if $(filter paper%,$(PROFILE)),msclap-2022,$(if $(filter esc50%,$(PROFILE)),sfx,compact))
CORES ?= 2
DATA ?= synthetic
SUITE ?= full
PAIRS ?= 400
PYTHON ?= python3
export TCLAP_ROOT ?= $(CURDIR)
# Settings reach the programs by the environment, which takes any character.
export PROFILE BASE WEIGHTS DOWNLOAD ESC50_ROOT TEST_FOLD VAL_FOLD CLASSES DATA ROOT SUITE PAIRS

BIN := .venv/bin
LATEST := .venv-latest/bin
# Python 3.13 on the path or in pyenv (whose python3.13 may be a shim that starts none), else what there is.
LATEST_PYTHON ?= $(shell for python in python3.13 "$$(pyenv prefix 3.13 2>/dev/null)/bin/python" python3; do \
	"$$python" -c "" 2>/dev/null && { echo "$$python"; break; }; done)
# The weights of sfx: not in the lock, as its pins of numpy and librosa, which nobody needs, exclude the others.
AISFX := aisfx==0.1.2
QUIETLY := --quiet --quiet --disable-pip-version-check
CLUSTERS := $(notdir $(wildcard workflow/profiles/*))
$(if $(filter-out $(CLUSTERS),$(CLUSTER)),$(error CLUSTER=$(CLUSTER): expected one of: $(CLUSTERS)))
# One run at a time in a folder; the lock is gone when its holder is, however it ended. Without a cluster Snakemake's
# Slurm plugin asks nobody for its settings: where Slurm is installed and does not answer, it waits ten seconds for them.
SNAKEMAKE := PYTHONPATH=workflow $(if $(CLUSTER)$(SLURM_CONF),,SLURM_CONF=/dev/null) flock --close --nonblock --conflict-exit-code 9 .snakemake-lock \
	$(BIN)/snakemake --snakefile workflow/Snakefile $(if $(CLUSTER),--workflow-profile workflow/profiles/$(CLUSTER),--cores $(CORES)) \
	--rerun-triggers input --rerun-incomplete --nolock --logger steps
LOCKED := || { [ $$? -ne 9 ] || echo "another run is going on in this folder: wait for it, or end it." >&2; exit 1; }
RUN := --profile "$$PROFILE" --base "$$BASE"

.DEFAULT_GOAL := help
.PHONY: help reproduce verify evaluate test test-latest lint lab tex site paper bench clean clean-features

help: ## explain the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "Python 3.11 or 3.12 is needed (numpy < 2 has no wheel for others), found %d.%d: set PYTHON=python3.11." % sys.version_info[:2])'
	@echo "setting up .venv: 2.4 GB, exact versions from requirements.lock"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install $(QUIETLY) --requirement requirements.lock
	@$(BIN)/python -m pip install $(QUIETLY) --no-deps --no-build-isolation --config-settings editable_mode=compat $(AISFX) --editable .
	@touch $@

reproduce: .venv/ready ## run notebooks 01 to 07 and build all figures and tables (PROFILE=esc50 ESC50_ROOT=...: on real recordings)
	@$(SNAKEMAKE) $(LOCKED)
	@$(BIN)/python -m artifact report $(RUN)

verify: .venv/ready ## compare a run with its committed reference numbers, number by number
	@$(BIN)/python -m artifact verify $(RUN)

evaluate: .venv/ready ## the temporal benchmark on any model (BASE=msclap-2022 [WEIGHTS=...] [DATA=esc50] [SUITE=full] [PAIRS=400])
	@$(BIN)/tclap evaluate --model "$$BASE" --data "$$DATA" --suite "$$SUITE" --pairs "$$PAIRS" --threads $(CORES) \
		$${WEIGHTS:+--weights "$$WEIGHTS"} $${ROOT:+--root "$$ROOT"} --out "$$TCLAP_ROOT/runs/evaluate/$$BASE-$$DATA.parquet"

test: .venv/ready lint ## run the test suite
	$(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

.venv-latest/ready: pyproject.toml
	@echo "setting up .venv-latest: the newest versions on $$("$(LATEST_PYTHON)" --version), of msclap the layers alone"
	@"$(LATEST_PYTHON)" -m venv --clear .venv-latest
	@$(LATEST)/python -m pip install $(QUIETLY) torch==2.13.0 torchlibrosa mteb mlcroissant statsmodels \
		hypothesis pytest pytest-xdist \
		--config-settings editable_mode=compat --editable ".[av]"
	@$(LATEST)/python -m pip install $(QUIETLY) --no-deps msclap $(AISFX)
	@touch $@

test-latest: .venv-latest/ready ## run the library's tests on the newest numpy, pandas, transformers and Python 3.13 (in .venv-latest: remove it to renew)
	@$(LATEST)/python -m pip freeze | grep -E '^(av|librosa|msclap|numpy|pandas|torch|transformers)==' | paste -sd ' '
	$(LATEST)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder \
		tests/training tests/slots tests/models tests/evaluation tests/data $(addprefix tests/test_,audio.py cli.py files.py losses.py package.py)

lint: .venv/ready ## check format, style, types, the direction of imports and the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

lab: .venv/ready ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

# A file of each package that the paper needs: a part of TeX may be there.
tex:
	@command -v latexmk >/dev/null && kpsewhich extarticle.cls booktabs.sty ptmr8t.tfm >/dev/null || { echo "latexmk or a part of TeX is missing: apt-get install latexmk texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-science" >&2; exit 1; }

site: .venv/ready ## build the website of a run in docs/_build/html
	@$(BIN)/python -m docs $(RUN)
	@$(BIN)/sphinx-build -q -W --keep-going --jobs $(CORES) --conf-dir docs "$$TCLAP_ROOT/docs/_build/source" "$$TCLAP_ROOT/docs/_build/html"
	@echo "$$TCLAP_ROOT/docs/_build/html/index.html"

paper: tex .venv/ready ## build paper/main.pdf, and what of the run it needs (needs TeX)
	@$(SNAKEMAKE) -- paper_inputs $(LOCKED)
	cd paper && latexmk -pdf -interaction=nonstopmode -halt-on-error main.tex

bench: .venv/ready ## run the benchmarks
	@for script in $(filter-out $(addprefix benchmarks/,__init__.py gpu_sections.py random_weights.py),$(wildcard benchmarks/*.py)); do \
		echo; echo "$$script"; TCLAP_BATCH=1 $(BIN)/python $$script || exit 1; done

clean: ## remove what runs made (results, figures, kept features, synthetic sounds); downloads, .venv and files of yours stay
	@$(PYTHON) workflow/clean.py "$$TCLAP_ROOT"

clean-features: .venv/ready ## remove the trunk outputs kept between runs (all profiles), as clean also does
	@$(BIN)/tclap features clear
