# make demo         a real sweep, from installation to the results table
# make test         the tests, within 20 minutes on two cores
# make test-all     the slow ones too
# make lint         ruff, mypy, hadolint and shellcheck
# make slurm        start a small real SLURM on this machine (Linux, root)
# make slurm-stop   stop it
# make faults       hit real trainings on a real SLURM with each fault; print what was lost and repeated
# make chaos        kill runs a hundred times at random moments; every run must end as if nothing had happened
# make image        build the container image `hyperformer`
# make docker-test  build the image and use it (minutes)
# make peer-tests  run transformers' own model tests on our model and on stock T5 (needs a package index)
# make toy-t5       train the shipped small T5 again
# make clean        remove .venv and build folders
PYTHON ?= python3
DOCKER ?= docker
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-all peer-tests faults chaos slurm slurm-stop lint toy-t5 image docker-test clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

# torch comes first: DeepSpeed's setup needs it.
$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/python launchers/sweep.py sweeps/demo.yaml --cluster local

test: $(STAMP)
	$(BIN)/python tests/side_by_side.py -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest

# Their source is fetched from the package index into a temporary folder.
peer-tests: $(STAMP)
	$(BIN)/python tests/peers/run_common_tests.py

chaos: $(STAMP)
	$(BIN)/python tests/chaos.py

# Needs root and the Debian packages slurm-wlm and munge; says so if they are missing.
slurm:
	$(PYTHON) tests/cluster/slurm_cluster.py start .cluster

# About a minute per fault. Needs what `make slurm` needs.
faults: $(STAMP)
	$(BIN)/python tests/cluster/fault_table.py .faults

slurm-stop:
	$(PYTHON) tests/cluster/slurm_cluster.py stop .cluster

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck launchers/slurm/*.sh hyperformer/scripts/*.sh

# About 15 minutes on a CPU with bfloat16 units.
toy-t5: $(STAMP)
	rm -r hyperformer/data/assets/toy-t5
	$(BIN)/python -m hyperformer.pretrain --text toy --toy-lines 400000 --vocab-size 600 --d-ff 256 --length 64 \
	  --batch-size 64 --steps 8000 --rate-scaling none --learning-rate 2e-3 --dropout 0 --bf16 --log-every 500 --save-every 1000 \
	  --output hyperformer/data/assets/toy-t5

# With CUDA. Smaller, for CPUs: make image TORCH_INDEX=https://download.pytorch.org/whl/cpu
image:
	$(DOCKER) build --build-arg COMMIT=$$(git describe --always --exclude '*' --abbrev=40 --dirty) \
	  --build-arg TORCH_INDEX=$(TORCH_INDEX) -t hyperformer .

# Without a Docker engine it needs root, buildah, podman, runc and debootstrap; says so if they are missing.
docker-test:
	$(PYTHON) tests/docker/check_image.py

clean:
	rm -rf $(VENV) build dist *.egg-info
