# Sets up .venv and calls the tools; no logic of its own.
PYTHON ?= $(or $(shell command -v python3.11),python3)
BATCH  ?= quick
BIN     = .venv/bin
READY   = .venv/.installed
PEERS   = .venv-peers/.installed

.PHONY: reports test status lab format benchmark

reports: $(READY)  ## run a batch (BATCH=quick) and print where to read it
	@$(BIN)/python -m lib.pipeline.batch check --batch $(BATCH)
	@$(BIN)/snakemake --cores all --config batch=$(BATCH)
	@echo "Read $(CURDIR)/reports/$(BATCH)/index.html"

test: $(READY)  ## everything CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pytest --shapes --nbval-lax tests notebooks

status: $(READY)  ## which reports are current, and which file made the others stale
	@$(BIN)/python -m lib.pipeline.status

lab: $(READY)  ## JupyterLab, with the pairs of notebooks/ in step
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

format: $(READY)  ## ruff, on the library, the tests and the notebooks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(READY) $(PEERS)  ## the speed figures, with the peers, measured on this machine
	@$(BIN)/python -m lib.pipeline.batch check --batch benchmark
	@$(BIN)/snakemake --cores all --forceall --config batch=benchmark
	@$(BIN)/python -m lib.studies.speed reports/benchmark/speed.ipynb
	@echo "Read $(CURDIR)/reports/benchmark/index.html"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .[dev]
	@touch $@

$(PEERS): peers.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet -r peers.txt
	@touch $@
