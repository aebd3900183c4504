# The commands of this project. `make help` lists them; every variable below can be set on the command line.

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= auto
HTTP_PORT ?= 8080
GRPC_PORT ?= 8081
PREDICTOR_HTTP_PORT ?= 8090
PREDICTOR_GRPC_PORT ?= 8091
MODEL_DIR ?= weights/embedded
# Where torch comes from, say an index of CPU builds. Empty: as locked in requirements/torch.txt. The choice is remembered.
TORCH_INDEX ?= $(shell cat $(VENV)/torch-index 2>/dev/null)
PYTEST_ARGS ?=
UPGRADE ?=

# What the predictor is compared with: benchmarks/peers.
PEERS := bentoml diffusers kserve litserve
SITE := import sysconfig; print(sysconfig.get_path("purelib"))

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := $(VENV)/bin
export PYTHONUNBUFFERED = 1

# ---- For users ----------------------------------------------------------------------------------------------------

.PHONY: help
help: ## List the targets and the variables
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables, with what they are now:"
	@printf '  %s\n' PYTHON=$(PYTHON) VENV=$(VENV) DEVICE=$(DEVICE) MODEL_DIR=$(MODEL_DIR) TORCH_INDEX=$(TORCH_INDEX) \
		HTTP_PORT=$(HTTP_PORT) GRPC_PORT=$(GRPC_PORT) \
		PREDICTOR_HTTP_PORT=$(PREDICTOR_HTTP_PORT) PREDICTOR_GRPC_PORT=$(PREDICTOR_GRPC_PORT)

.PHONY: run
run: $(VENV)/run.stamp ## Install, start predictor and transformer, draw the first pictures into out/, serve until Ctrl-C
	@$(BIN)/python quickstart.py --model_dir $(MODEL_DIR) --device $(DEVICE) --http_port $(HTTP_PORT) --grpc_port $(GRPC_PORT) --predictor_http_port $(PREDICTOR_HTTP_PORT) --predictor_grpc_port $(PREDICTOR_GRPC_PORT)

.PHONY: test
# The models of the tests are tiny: threads would only wait for each other, for long on a busy machine.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/dev.stamp ## Run all tests that need no cluster and no GPU
	$(BIN)/python -m pytest -m "not (cluster or gpu or images or manifests)" $(PYTEST_ARGS)

.PHONY: test-gpu
test-gpu: $(VENV)/dev.stamp ## Run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

.PHONY: clean
clean: ## Remove the virtual environment, out/ and every cache
	rm -rf out build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . \( -path ./.git -o -path ./.cluster \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	test ! -e $(VENV)/pyvenv.cfg || rm -rf $(VENV)

# ---- For developers -----------------------------------------------------------------------------------------------

.PHONY: check
check: $(VENV)/dev.stamp ## Check style (ruff), types (mypy) and import rules (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: eval
eval: $(VENV)/dev.stamp ## Measure the embedded model: right emoji, right look, crispness
	$(BIN)/python -m weights eval

.PHONY: eval-ko
eval-ko: $(VENV)/dev.stamp ## Measure Korean: the English of 297 sentences, then their pictures by the service of `make run`
	$(BIN)/python -m transformer.evaluate
	$(BIN)/python -m weights eval service --url http://127.0.0.1:$(HTTP_PORT) --sentences transformer/eval_ko.jsonl

.PHONY: bench
bench: $(VENV)/dev.stamp ## Time one picture at the service of `make run`, side by side
	$(BIN)/python -m benchmarks.latency --transformer http://127.0.0.1:$(HTTP_PORT) --predictor http://127.0.0.1:$(PREDICTOR_HTTP_PORT)

# docs/benchmarks.md; BENCH_ARGS="--profile evening" takes an hour, --quick sees in minutes that all of it runs.
BENCH_ARGS ?=
ALONE := --sides predictor --latency_sides predictor --memory_sides predictor --start_sides predictor

.PHONY: bench-engine
bench-engine: $(VENV)/dev.stamp ## Measure the predictor and its engine alone: steps, throughput, joining, memory, drift
	$(BIN)/python -m benchmarks $(ALONE) --scenarios steps throughput joining switching overhead memory drift starting $(BENCH_ARGS)

.PHONY: bench-peers
bench-peers: $(PEERS:%=build/peers/%.stamp) ## Compare the predictor with diffusers, BentoML, LitServe and KServe (BENCH_ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: bench-publish
bench-publish: $(VENV)/dev.stamp ## Put the results of a run into docs/ and README.md: make bench-publish RUN=out/bench/…
	$(BIN)/python -m benchmarks.publish $(RUN) $(if $(NAME),--name $(NAME))

.PHONY: pictures
pictures: $(VENV)/run.stamp ## Draw the README's picture through the service that `make run` has started
	$(BIN)/python docs/pictures/hero.py --url http://127.0.0.1:$(HTTP_PORT)

.PHONY: train
train: $(VENV)/dev.stamp ## Train the embedded base and its two LoRAs (hours on a CPU; resumes where it stopped)
	$(BIN)/python -m weights train --device $(DEVICE:auto=cpu)

.PHONY: glyphs
glyphs: $(VENV)/dev.stamp ## Build the glyph data set anew: make glyphs NOTO=font.ttf OPENMOJI=folder CLDR=folder
	$(BIN)/python -m weights glyphs --noto $(NOTO) --openmoji $(OPENMOJI) --cldr $(CLDR)

# ---- Container images ---------------------------------------------------------------------------------------------
# By docker, podman or buildah, whichever works; images/README.md has sizes, times and choices.

REGISTRY ?= dev.local
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BASE ?= python:3.11-slim
# cuda: torch as locked. cpu: the same without its CUDA libraries, 2.2 GB instead of 5.8. TORCH_INDEX beats both.
TORCH ?= cuda
# Certificates that pip has to trust during a build, for a network with a proxy that signs by itself.
CA_BUNDLE ?= $(PIP_CERT)
images image-archives base-image test-images: export REGISTRY := $(REGISTRY)
images image-archives base-image test-images: export VERSION := $(VERSION)
images image-archives base-image: export BASE := $(BASE)
images image-archives: export TORCH := $(TORCH)
images image-archives: export TORCH_INDEX := $(TORCH_INDEX)
images image-archives: export CA_BUNDLE := $(CA_BUNDLE)

.PHONY: images
images: ## Build the images of predictor, transformer and weights (TORCH=cpu: a third of the size, no GPU)
	images/build.sh build

.PHONY: image-archives
image-archives: images ## Save the images and their bills of materials into build/images/
	images/build.sh save

.PHONY: base-image
base-image: ## Make python:3.11-slim of Debian's packages, for `make images` where no registry can be reached
	images/build.sh base

.PHONY: test-images
test-images: $(VENV)/dev.stamp ## Run the images (as built by `make images`) with a read-only root and draw a picture
	$(BIN)/python -m pytest -m images $(PYTEST_ARGS) tests/images

# ---- A cluster on this machine ------------------------------------------------------------------------------------
# Kubernetes, Knative and KServe from pinned Go modules, in the folder .cluster. See cluster/README.md.

STANDARD ?=
KEDA ?=
WIPE ?=

.PHONY: cluster-up
cluster-up: ## Bring up a real KServe cluster here, as root (STANDARD=1: with Envoy Gateway and metrics-server; KEDA=1: also KEDA and Prometheus)
	@cluster/up $(if $(KEDA),--with-keda,$(if $(STANDARD),--with-standard))

.PHONY: cluster-down
cluster-down: ## Stop it and remove all it left but the built programs (WIPE=1: these too)
	@cluster/down $(if $(WIPE),--wipe)

# ---- Manifests and chart ------------------------------------------------------------------------------------------
# Rendered and checked by programs of pinned Go modules (tools/), built into .tools.

TOOLS := .tools
HELM := helm.sh/helm/v3
# without these, `helm template` takes itself for Kubernetes 1.20
HELM_FLAGS := -X $(HELM)/pkg/chartutil.k8sVersionMajor=1 -X $(HELM)/pkg/chartutil.k8sVersionMinor=34

.PHONY: tools
tools: $(TOOLS)/programs.stamp $(TOOLS)/schemas.stamp ## Build kustomize, helm, helm-docs and kubeconform with Go, and the schemas for it

$(TOOLS)/programs.stamp: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $(HELM_FLAGS)" -o ../$(TOOLS)/ tool
	@touch $@

$(TOOLS)/schemas.stamp: $(VENV)/dev.stamp tools/schemas/go.mod tools/schemas/schemas.py
	$(BIN)/python tools/schemas/schemas.py $(TOOLS)/schemas
	@touch $@

.PHONY: test-manifests
test-manifests: $(VENV)/dev.stamp ## Render the manifests and the chart in every setting, and check and compare what comes out
	@if command -v go >/dev/null; then $(MAKE) tools; else \
		echo "NO GO: kustomize, helm, helm-docs and kubeconform cannot be built. What the PATH lacks of them is NOT tested;"; \
		echo "pytest lists it below as skipped. Go 1.26 or newer builds all: https://go.dev/dl"; fi
	$(BIN)/python -m pytest -m manifests $(PYTEST_ARGS) tests/manifests tests/helm

.PHONY: chart-readme
chart-readme: $(TOOLS)/programs.stamp ## Write the chart's README anew from its values
	$(TOOLS)/helm-docs --chart-search-root helm --sort-values-order file

# ---- Tests on a cluster -------------------------------------------------------------------------------------------
# tests/cluster/run.sh says what to set for a cluster of yours. The evidence: out/cluster, STANDARD=1: out/cluster-standard.

S3 ?=

.PHONY: test-cluster
test-cluster: $(VENV)/dev.stamp ## Test on the cluster of KUBECONFIG, else on one brought up here, as root (STANDARD=1: Standard mode; KEDA=1: that with KEDA; S3=1: downloads too)
	PYTHON=$(BIN)/python STANDARD=$(STANDARD) KEDA=$(KEDA) S3=$(S3) tests/cluster/run.sh $(PYTEST_ARGS)

# ---- The virtual environment --------------------------------------------------------------------------------------
# A stamp says that a step was finished, so a second call is instant and an interrupted one is taken up again.
# The locks are complete, hence --no-deps: nothing that is not in them gets in.

PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps
# kiwipiepy-model is published as source only; the setuptools that packs it is itself locked (build.txt).
LOCKED := $(PIP) --require-hashes --only-binary :all: --no-binary kiwipiepy-model --no-build-isolation

# Another source of torch than the one installed: begin anew.
ifneq ($(TORCH_INDEX),$(shell cat $(VENV)/torch-index 2>/dev/null))
$(VENV)/venv.stamp: forget-torch
.PHONY: forget-torch
forget-torch:
	test ! -e $(VENV)/pyvenv.cfg || rm -rf $(VENV)
endif

$(VENV)/venv.stamp: requirements/build.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is %d.%d. Try: make run PYTHON=python3.12" % v)'
	@echo "Installing into $(VENV) (once; the hash-pinned packages of requirements/) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) --quiet -r requirements/build.txt
	@touch $@

$(VENV)/torch.stamp: $(VENV)/venv.stamp requirements/torch.txt
ifeq ($(TORCH_INDEX),)
	@$(LOCKED) -r requirements/torch.txt
else
	@$(PIP) --index-url $(TORCH_INDEX) $$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch.txt)
endif
	@printf '%s' '$(TORCH_INDEX)' > $(VENV)/torch-index
	@touch $@

$(VENV)/run.stamp: $(VENV)/torch.stamp requirements/predictor.txt requirements/transformer.txt
	@$(LOCKED) --quiet -r requirements/predictor.txt -r requirements/transformer.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@$(LOCKED) --quiet -r requirements/dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check check
	@touch $@

# A peer has what its server needs; torch, diffusers and all else that draws it takes from here, by a .pth file: every side
# computes with the very same files, and 3 GB are there once.
$(PEERS:%=build/peers/%.stamp): build/peers/%.stamp: benchmarks/peers/%.txt $(VENV)/dev.stamp
	rm -rf build/peers/$*
	$(BIN)/python -m venv --without-pip build/peers/$*
	$(BIN)/python -m pip --disable-pip-version-check --python build/peers/$*/bin/python install --quiet --no-deps \
		--require-hashes --only-binary :all: -r $<
	$(BIN)/python -c '$(SITE)' > "$$(build/peers/$*/bin/python -c '$(SITE)')/project.pth"
	@touch $@

# dev.txt holds every package but torch's own; the other locks take their versions from it, but for BentoML's, which can't.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--only-binary :all: --no-binary kiwipiepy-model --custom-compile-command "make lock" $(UPGRADE)
WITHOUT_TORCH = --excludes requirements/cuda.in --no-emit-package torch
ALIKE = --constraints requirements/dev.txt

.PHONY: lock
lock: $(VENV)/dev.stamp ## Pin requirements/*.txt and the other locks anew (UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(WITHOUT_TORCH) pyproject.toml --extra dev -o requirements/dev.txt
	$(COMPILE) $(ALIKE) $(WITHOUT_TORCH) pyproject.toml --extra predictor -o requirements/predictor.txt
	$(COMPILE) $(ALIKE) pyproject.toml --extra transformer -o requirements/transformer.txt
	$(COMPILE) $(ALIKE) $(WITHOUT_TORCH) pyproject.toml --extra seq2seq -o requirements/seq2seq.txt
	$(COMPILE) --no-emit-package numpy benchmarks/peers/bentoml.in -o benchmarks/peers/bentoml.txt
	$(COMPILE) $(ALIKE) --no-emit-package numpy benchmarks/peers/diffusers.in -o benchmarks/peers/diffusers.txt
	$(COMPILE) $(ALIKE) --no-emit-package numpy benchmarks/peers/kserve.in -o benchmarks/peers/kserve.txt
	$(COMPILE) $(ALIKE) --no-emit-package numpy benchmarks/peers/litserve.in -o benchmarks/peers/litserve.txt
	$(COMPILE) $(ALIKE) requirements/build.in -o requirements/build.txt
	$(COMPILE) $(ALIKE) images/sbom.in -o images/sbom.txt
	$(COMPILE) $(ALIKE) cluster/storage/requirements.in -o cluster/storage/requirements.txt
	$(COMPILE) $(ALIKE) pyproject.toml --extra torch -o requirements/torch.txt \
		$$(sed -n 's/^\([a-z][^= ]*\)==.*/--no-emit-package \1/p' requirements/dev.txt)
