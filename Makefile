# Every target sets up .venv first if it is missing. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DERAIN := $(BIN)/derain

# make table1 DATA=/data RECIPE=paper DATASETS=rain12,rain100l MODELS=esdnet,prenet SEEDS=0..2 WORKERS=1 RETRY=failed PLAN=1 SET="recipe.epochs=10 logger=wandb"
TABLE_OPTIONS := $(if $(DATA),--data "$(DATA)") $(if $(RECIPE),--recipe $(RECIPE)) $(if $(MODELS),--models $(MODELS)) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(RUNS),--runs "$(RUNS)") \
	$(if $(RETRY),--retry $(RETRY)) $(if $(PLAN),--plan)
# settings of Table 2 alone: `make report` makes Table 1 too
TABLE2_ONLY := photographs=% duplicates=% piqe=% metaiqa.%

# s3fs, and moto's server of S3's protocol to test it with
S3 := s3fs aiobotocore botocore aioitertools jmespath wrapt moto boto3 s3transfer responses xmltodict flask flask-cors itsdangerous blinker

.DEFAULT_GOAL := help
.PHONY: help setup test fuzz soak mutants conformance coverage lint format cost scalability bench table1 table2 real ablations table3 table4 table5 figures report docs sweep clean

help: ## List the targets
	@grep -hE '^[a-z0-9_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make .venv with the pinned versions (several GB: torch comes with CUDA)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps sweeps # W&B's schema of a sweep; its code wants an older numpy
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps $(S3) # botocore wants an older python-dateutil, and works with this
	touch $@

test: setup ## Run the tests
	$(BIN)/python -m pytest -n auto

N ?= 100000
fuzz: setup ## Fuzz each reader with N inputs (100000), one after the other; needs pip install '.[fuzz]'
	for target in image checkpoint archive pairing configuration; do \
		nice -n 15 $(BIN)/python tests/fuzz/fuzz.py $$target --inputs $(N) || exit 1; done

soak: setup ## 500 small runs while processes are killed at random
	nice -n 15 $(BIN)/python tests/faults/soak.py --runs 500

EACH ?= 50
mutants: setup ## Break EACH (50) places of the modules that everything rests on: which do the tests notice?
	nice -n 15 $(BIN)/python tests/mutants/mutants.py --each $(EACH)

conformance: setup ## Parity with the authors' own code, cloned; or in clones that are there: AUTHORS=FOLDER
	$(BIN)/python tests/conformance/conformance.py $(if $(AUTHORS),"$(AUTHORS)") $(if $(MODELS),--only $(MODELS))

coverage: setup ## Run the tests and list the lines that none of them reaches
	$(BIN)/python -m pytest -n auto --cov --cov-report=term-missing --cov-fail-under=90

lint: setup ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

table1: setup ## Table 1; embedded by default, DATA=/data RECIPE=paper for the published datasets
	$(DERAIN) table 1 $(if $(DATASETS),--datasets "$(DATASETS)") $(TABLE_OPTIONS) $(filter-out $(TABLE2_ONLY),$(SET))

table2: setup ## Table 2, PIQE on rainy photographs; any with SET="photographs=FOLDER piqe=reference metrics=niqe,brisque"
	$(if $(and $(DATASETS),$(filter table2,$(MAKECMDGOALS))),$(error make table2 DATASETS=$(DATASETS): the columns of Table 1; photographs are SET="photographs=FOLDER"))
	$(DERAIN) table 2 $(TABLE_OPTIONS) $(SET)

REAL := --models none --released results/real/released.yaml --runs results/real --out results/real
real: setup ## Tables 1 and 2 of rows that others trained, on real test sets: results/real; DATA=FOLDER METRICS=niqe,brisque
	$(if $(DATA),,$(error make real DATA=FOLDER: it has the test sets, weights/ and restored/ as results/real/released.yaml names them))
	$(DERAIN) table 1 $(REAL) --data "$(DATA)" --datasets rain12,rain200l,rain200h
	$(DERAIN) table 2 $(REAL) --data "$(DATA)" photographs=internet-data duplicates=once $(if $(METRICS),metrics=$(METRICS))

cost: setup ## The corrected cost columns of Table 1: printed, thop's and true
	$(DERAIN) cost --networks

scalability: setup ## Operations, energy, time and memory at 256², 512² and 720²
	$(DERAIN) cost --scalability

bench: $(VENV)/.bench ## Speed and memory beside the peers': results/bench; ONLY=neuron,metrics QUICK=1
	$(DERAIN) bench --profile $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

ablations: setup ## Tables 3, 4 and 5 (residual blocks, time steps, components)
	$(DERAIN) ablations $(TABLE_OPTIONS) $(SET)

table3: setup ## Table 3, residual blocks
	$(DERAIN) table 3 $(TABLE_OPTIONS) $(SET)

table4: setup ## Table 4, time steps; others with VALUES=1,3,8
	$(DERAIN) table 4 $(if $(VALUES),--values $(VALUES)) $(TABLE_OPTIONS) $(SET)

table5: setup ## Table 5, components
	$(DERAIN) table 5 $(TABLE_OPTIONS) $(SET)

SHOW_OPTIONS := --recipe $(or $(RECIPE),$(if $(DATA),paper,embedded)) $(if $(RUNS),--runs "$(RUNS)") $(if $(MODELS),--models $(MODELS))

docs: setup ## The documentation as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

figures: table1 ## The figures (PDF, PNG, SVG), after Table 1's runs
	$(DERAIN) figures $(SHOW_OPTIONS)

report: table1 table2 ## One HTML page of tables, figures, pictures, costs and provenance
	$(DERAIN) report $(SHOW_OPTIONS)

sweep: setup ## A W&B sweep of Table 1, for agents (without a key: what it would be, and what does the same); SWEEP=table3, table4, table5, bayes
	$(DERAIN) sweep $(or $(SWEEP),table1)

clean: ## Remove .venv and caches; runs/ and results/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
