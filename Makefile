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

# what the tests are worth: properties on new examples, every line and branch of `src` (families in
# their environments, too), small changes that they should notice, and every fault
COVER := $(BIN)/python -m coverage
test-deep: $(VENV)/.installed
	$(COVER) erase --rcfile tests/coverage.ini
	HYPOTHESIS_PROFILE=deep $(COVER) run --rcfile tests/coverage.ini -m pytest
	$(COVER) run --rcfile tests/coverage.ini tests/zoo.py
	$(COVER) combine --rcfile tests/coverage.ini --quiet
	$(COVER) report --rcfile tests/coverage.ini
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

# pip would compile on one core
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
# Every file has one of the hashes of the lock, but for torch and the libraries that it brings: its
# builds for processors and for GPUs come from different places. It is there first, so that the lock
# does not fetch another build. Where all have a wheel (three never do), nothing is built.
ONLY_WHEELS := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),--only-binary :all: \
  --no-binary nvidia-ml-py3 --no-binary python-hostlist --no-binary yattag)
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and 'Python 3.10, 3.11 or 3.12 is needed')"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	torch=$$(grep -o '^torch==[^ ]*' requirements.lock) && \
	  $(INSTALL) --no-deps $$torch && \
	  $(INSTALL) --no-deps --require-hashes $(ONLY_WHEELS) -r requirements.lock && \
	  $(INSTALL) $$torch
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # some is for other Pythons
	$(INSTALL) --no-deps --editable .
	touch $@

# GPU libraries come with torch itself where they are wanted
lock:
	$(INSTALL) uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 \
	  --no-annotate --no-header --generate-hashes --output-file requirements.lock \
	  $$(for name in nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 \
	    nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
	    nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton cuda-bindings \
	    cuda-pathfinder cuda-toolkit; do echo --no-emit-package $$name; done)
	for file in data/environments/*.txt; do \
	  { grep '^#' $$file; grep -o '^[^# ][^ ]*==[^ ]*' $$file | $(BIN)/uv pip compile - --no-deps --universal \
	    --python-version 3.11 --no-annotate --no-header --generate-hashes; } > $$file.new && \
	  mv $$file.new $$file || exit 1; done

clean:
	rm -rf _build .pytest_cache .ruff_cache
