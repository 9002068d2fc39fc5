# Trainyard. `make` alone prints what there is to do.

PYTHON ?= python3       # 3.11 to 3.13; only to create .venv
DATA ?=                 # data set of `make run`: a path or a URI; by default MNIST
ARGS ?=                 # further options of `make run` and `make predict`, e.g. ARGS="--architecture cnn"
INDEX ?=                # test image for `make predict`; by default a random one
IMAGE ?=                # an image file for `make predict` instead of a test image
TESTS ?=                # tests for `make test` or `make e2e`; by default all
STEP ?=                 # one image: a component or predictor, also with -tf or -onnx
REGISTRY ?=             # registry of the images: host[:port][/path]
VERSION ?= dev          # tag of the images
BASE ?=                 # base image, by default python:3.11-slim
BUNDLE ?=               # the archive for `make load-bundle`
NAME ?=                 # the new component of `make component`
KNATIVE ?=              # 1: `make cluster` with Knative Serving
BRIEF ?=                # 1: `make chaos` in two minutes
GPU ?=                  # 1: train and evaluate for NVIDIA GPUs

RUN := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help run predict runs start stop test cluster cluster-check cluster-stop e2e lint types format bench data-named component package compile build push sizes bundle load-bundle contracts licences audit chaos lock clean

help:  ## Print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@awk -F ' *[?]= *| *# *' '/^[A-Z]+ [?]=/ {printf "  %-15s %s%s\n", $$1, $$3, ($$2 == "" ? "" : "  [" $$2 "]")}' Makefile

run: .venv/run  ## Run the pipeline here, from a data set to a live endpoint
	@$(RUN) -m trainyard run --data "$(strip $(DATA))" $(ARGS)

predict: .venv/run  ## Send another test image, or IMAGE, to the endpoint of the latest run that has one
	@endpoint=$$(ls -t runs/*/serve/endpoint 2>/dev/null | head -n 1); run=$${endpoint%/serve/endpoint}; \
	test "$$run" || { echo "no endpoint yet: make run starts one" >&2; exit 2; }; \
	test -f runs/latest/serve/endpoint || echo "the latest run has no endpoint; this is that of $$run" >&2; \
	$(RUN) -m trainyard.components.serve predict --endpoint "$$(cat "$$endpoint")" \
		$(if $(strip $(IMAGE)),--image "$(strip $(IMAGE))",--data "$$run/download/dataset") \
		$(if $(strip $(INDEX)),--index $(strip $(INDEX))) $(ARGS)

runs: .venv/run  ## Print the runs on this machine and the address of their page; ARGS=--open opens it in a browser
	@$(RUN) -m trainyard runs --here $(ARGS)

start: .venv/run  ## Start the object store and endpoints again, on the same ports (after a restart)
	@$(RUN) -m trainyard store start; stored=$$?; $(RUN) -m trainyard serve start && exit $$stored

stop:  ## Stop the endpoints and the object store
	@test ! -f .venv/run || { $(RUN) -m trainyard.components.serve stop; $(RUN) -m trainyard.launch.store stop; }

test: .venv/test  ## Run the tests
	@$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(or $(strip $(TESTS)),tests)

cluster-check: .venv/run  ## Check what the cluster in the kubeconfig lacks, e.g. ARGS="--settings prod.yaml"
	@$(RUN) -m trainyard.launch.cluster_check $(ARGS)

cluster: .venv/test  ## Start a one-node Kubernetes with KServe on this machine (root, Go, Docker)
	@$(RUN) -m tests.cluster start $(if $(strip $(BASE)),--base $(strip $(BASE))) $(if $(strip $(KNATIVE)),--knative)

cluster-stop: .venv/test  ## Stop that cluster and remove its state
	@$(RUN) -m tests.cluster stop

e2e: .venv/test  ## Test serving on the cluster that KUBECONFIG names, else on that of `make cluster`
	@$(if $(KUBECONFIG),,$(RUN) -m tests.cluster run) $(RUN) -m pytest -rsxX $(or $(strip $(TESTS)),tests/e2e)

lint: .venv/test types  ## Check style, types, imports, and that generated files are current
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-logo --no-cache
	@$(RUN) -m trainyard.launch.contracts --check

types: .venv/test .venv/types/trainyard  ## Check the types
	@$(RUN) -m mypy

# mypy does not know the link by which the root of the repository is installed as the package trainyard.
.venv/types/trainyard: | .venv/made
	@mkdir -p $(@D) && ln -sfn ../.. $@

format: .venv/test  ## Format the code
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

# What users of `make run` have, without what developers have besides; with GPU=1, TensorFlow for it.
BENCH := .venv-bench$(if $(strip $(GPU)),-gpu)

bench: data-named $(BENCH)/run  ## Measure the steps against baseline implementations (DATA=TFDS-prepared MNIST as .tar.gz)
	@$(BENCH)/bin/python -m benchmarks --data "$(strip $(DATA))" $(if $(strip $(GPU)),--only gpu) $(ARGS)

data-named:
	@test "$(strip $(DATA))" || \
		{ echo "DATA: expected TFDS-prepared MNIST as .tar.gz, received none; make bench DATA=mnist.tar.gz" >&2; exit 2; }

package: .venv/test  ## Build the wheel and the source distribution into dist/
	@$(RUN) -m uv build --quiet --offline --no-build-isolation --python $(RUN) --out-dir dist

compile: .venv/run  ## Compile the pipeline for Kubeflow Pipelines into dist/pipeline.yaml
	@$(RUN) -m trainyard compile $(ARGS) dist/pipeline.yaml

IMAGES := $(if $(strip $(REGISTRY)),--registry $(strip $(REGISTRY))) --version $(strip $(VERSION))
CHOICE := $(if $(strip $(STEP)),--step $(strip $(STEP))) $(if $(strip $(GPU)),--gpu)

build: .venv/run  ## Build the images of the steps, or that of one STEP
	@$(RUN) -m trainyard.launch.images build $(CHOICE) $(IMAGES) $(if $(strip $(BASE)),--base $(strip $(BASE)))

push: .venv/run  ## Push the images to REGISTRY; dist/components/ then names them by digest
	@$(RUN) -m trainyard.launch.images push $(CHOICE) $(IMAGES)

sizes: .venv/run  ## Print the sizes of the images and of their shared layers
	@$(RUN) -m trainyard.launch.images sizes $(IMAGES)

bundle: .venv/run  ## Pack the pushed images, components and pipeline into one archive, dist/trainyard-VERSION.tar
	@$(RUN) -m trainyard.launch.bundle pack --version $(strip $(VERSION)) dist/trainyard-$(strip $(VERSION)).tar

load-bundle: .venv/run  ## Push such an archive, BUNDLE, into REGISTRY; no network is needed
	@$(RUN) -m trainyard.launch.bundle load "$(strip $(BUNDLE))" --registry "$(strip $(REGISTRY))"

component: .venv/run  ## Create a component NAME that runs, with image, contract, page and test
	@$(RUN) -m trainyard.launch.scaffold "$(strip $(NAME))"

contracts: .venv/run  ## Write component.yaml and the reference page of every component from its options
	@$(RUN) -m trainyard.launch.contracts

licences: .venv/test  ## Print the licences of what the images install
	@$(RUN) -m trainyard.launch.dependencies licences

audit: .venv/test  ## Look up the packages of the images in the database of known vulnerabilities
	@$(RUN) -m trainyard.launch.dependencies audit

chaos: .venv/test  ## Test with random faults, kills, races and hostile input, e.g. ARGS="--seed 7"
	@$(RUN) -m pytest tests/chaos $(if $(strip $(BRIEF)),--brief) $(ARGS)

lock: .venv/test  ## Pin what the images install, with hashes, in components/*/requirements*.lock
	@$(RUN) -m trainyard.launch.lock $(ARGS)

clean: stop  ## Remove .venv, the runs, and the store with its data
	rm -rf .venv .venv-bench .venv-bench-gpu .trainyard runs dist

REQUIREMENTS := requirements.txt $(wildcard components/*/requirements*.in)

# Marked when it is whole: one that was left half-made is made anew.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
		{ received=$$($(PYTHON) --version 2>/dev/null || echo "$(strip $(PYTHON)), which is not here"); \
		echo "PYTHON: expected 3.11 to 3.13, received $$received; make PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up .venv, once: 700 MB to download, 2.2 GB on disk, a minute or more"
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; \
		echo "PYTHON: expected one with venv and ensurepip; install them (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@touch $@

# pip says nothing for minutes: a line now and then tells that it goes on.
INSTALL = { while sleep 20; do echo "setting up $(@D): $$(du -sm $(@D) | cut -f1) MB so far"; done & told=$$!; \
	trap "kill $$told" EXIT; $(@D)/bin/pip install --quiet --disable-pip-version-check $(1); }

.venv/run: .venv/made $(REQUIREMENTS) pyproject.toml setup.py
	@$(call INSTALL,-r requirements.txt)
	@$(call INSTALL,--no-deps --editable .)
	@touch $@

.venv-bench/run: WHAT := requirements.txt
.venv-bench-gpu/run: WHAT := components/train/requirements-gpu.in
.venv-bench/run .venv-bench-gpu/run: $(REQUIREMENTS) pyproject.toml setup.py
	@$(PYTHON) -m venv --clear $(@D)
	@$(call INSTALL,-r $(WHAT))
	@$(call INSTALL,--no-deps --editable .)
	@touch $@

.venv/test: .venv/run requirements-dev.txt
	@$(call INSTALL,-r requirements-dev.txt)
	@touch $@
