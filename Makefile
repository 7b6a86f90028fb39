# `make` explains the targets. Settings: PROFILE, BASE, WEIGHTS, DOWNLOAD, ESC50_ROOT, TEST_FOLD, VAL_FOLD,
# CLASSES, CORES, PYTHON; of `make evaluate` also DATA, ROOT, SUITE, PAIRS.

PROFILE ?= synthetic
BASE ?= $(if $(filter paper%,$(PROFILE)),msclap-2022,compact)
CORES ?= 2
DATA ?= synthetic
SUITE ?= full
PAIRS ?= 400
PYTHON ?= python3
export TCLAP_ROOT ?= $(CURDIR)
# Notebooks run in their own folder, where a relative path would mean something else.
FOLDERS := ESC50_ROOT CLOTHO_ROOT AUDIOCAPS_ROOT TCLAP_HUB
$(foreach name,$(FOLDERS),$(if $($(name)),$(eval export override $(name) := $(abspath $($(name))))))

BIN := .venv/bin
SETTINGS := profile=$(PROFILE) base=$(BASE) $(if $(TEST_FOLD),test_fold=$(TEST_FOLD)) \
	$(if $(VAL_FOLD),validation_fold=$(VAL_FOLD)) $(if $(CLASSES),classes=$(CLASSES)) \
	$(if $(WEIGHTS),weights=$(abspath $(WEIGHTS))) $(if $(DOWNLOAD),download=True)
SNAKEMAKE := $(BIN)/snakemake --snakefile workflow/Snakefile --cores $(CORES) --config $(SETTINGS)
REFERENCE := configs/reference/$(PROFILE)-$(BASE).json

.DEFAULT_GOAL := help
.PHONY: help reproduce verify evaluate test lint lab tex paper bench clean clean-features

help: ## explain the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "Python 3.11 or 3.12 is needed (numpy < 2 has no wheel for others), found %d.%d: set PYTHON=python3.11." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	touch $@

reproduce: .venv/ready ## run notebooks 01 to 06 and build all figures and tables (PROFILE=esc50 ESC50_ROOT=...: on real recordings)
	@$(SNAKEMAKE) --quiet rules host
	@$(BIN)/python -m artifact report --profile $(PROFILE) --base $(BASE) --reference $(REFERENCE)

verify: .venv/ready ## compare a run with its committed reference numbers, number by number
	@$(BIN)/python -m artifact verify --profile $(PROFILE) --base $(BASE)

evaluate: .venv/ready ## the temporal benchmark on any model (BASE=msclap-2022 [WEIGHTS=...] [DATA=esc50] [SUITE=full] [PAIRS=400])
	@$(BIN)/tclap evaluate --model $(BASE) --data $(DATA) --suite $(SUITE) \
		--pairs $(PAIRS) --threads $(CORES) $(if $(WEIGHTS),--weights $(abspath $(WEIGHTS))) $(if $(ROOT),--root $(abspath $(ROOT))) \
		--out $(TCLAP_ROOT)/runs/evaluate/$(BASE)-$(DATA).parquet

test: .venv/ready lint ## run the test suite
	$(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile

lint: .venv/ready ## check format, style and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo

lab: .venv/ready ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

# A file of each package that the paper needs: a part of TeX may be there.
tex:
	@command -v latexmk >/dev/null && kpsewhich extarticle.cls booktabs.sty ptmr8t.tfm >/dev/null || { echo "latexmk or a part of TeX is missing: apt-get install latexmk texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-science" >&2; exit 1; }

paper: tex .venv/ready ## build paper/main.pdf, and what of the run it needs (needs TeX)
	@$(SNAKEMAKE) --quiet rules host -- paper_inputs
	cd paper && latexmk -pdf -interaction=nonstopmode -halt-on-error main.tex

bench: .venv/ready ## run the benchmarks
	@for script in $(filter-out benchmarks/__init__.py benchmarks/random_weights.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

clean: ## remove what runs made (results, figures, kept features, synthetic sounds); downloads and .venv stay
	rm -rf runs data/features data/synthetic-* .snakemake figures/*.pdf figures/*.csv paper/tables paper/numbers.tex
	find figures -name "*.png" ! -name "readme_*" -delete
	cd paper && rm -f main.pdf main.aux main.bbl main.blg main.fdb_latexmk main.fls main.log main.out

clean-features: .venv/ready ## remove the trunk outputs kept between runs (all profiles), as clean also does
	@$(BIN)/tclap features clear
