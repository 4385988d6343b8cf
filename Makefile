# Two commands: `make book` and `make test`. They need Python 3.10, 3.11 or 3.12, nothing else.
PYTHON ?= python3
PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin

.PHONY: book test test-deep test-zoo bench lint clean lock

book: $(VENV)/.installed
	$(BIN)/umlip-latents book --profile $(PROFILE)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(TESTS)

# what the tests are worth: properties on new examples, every line and branch of `src` (with the
# families that can be run here), small changes that they should notice, and every fault
ZOO := sevennet soap matgl nequix
COVER := PYTEST_ADDOPTS="--cov=umlip_latents --cov-branch --cov-append --cov-report="
test-deep: $(VENV)/.installed
	rm -f .coverage
	HYPOTHESIS_PROFILE=deep $(COVER) $(BIN)/python -m pytest --ignore tests/notebooks --ignore tests/book
	$(COVER) $(BIN)/python tests/zoo.py $(ZOO)
	$(BIN)/python -m coverage report --skip-covered
	$(BIN)/python tests/mutation.py
	$(BIN)/python tests/faults.py

# every model family in its own environment, which is made first
test-zoo: $(VENV)/.installed
	$(BIN)/python tests/zoo.py

# needs the public samples, downloaded or in the folder UMLIP_LATENTS_DATA
bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/run.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests data book/_ext
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tests/house.py

# torch first and by version, so that no other package asks for its newest build
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and 'Python 3.10, 3.11 or 3.12 is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# GPU libraries come with torch itself where they are wanted
lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 \
	  --no-annotate --no-header --output-file requirements.lock \
	  $$(for name in nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 \
	    nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
	    nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton cuda-bindings \
	    cuda-pathfinder cuda-toolkit; do echo --no-emit-package $$name; done)

clean:
	rm -rf _build .pytest_cache .ruff_cache
