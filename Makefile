# Two commands: `make book` and `make test`. They need Python 3.10 to 3.13 and make, nothing else.
PYTHON ?= python3
PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin

.PHONY: book test test-all bench features lint clean lock

book: $(VENV)/.installed
	$(BIN)/umlip-latents book --profile $(PROFILE)

# as many processes as there are cores, four at most: each takes a gigabyte or two
# `-rs` names what is skipped, and why
PYTEST := $(BIN)/python -m pytest -rs --numprocesses auto --maxprocesses 4 --dist loadfile
test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

# with what takes minutes, and every model family in its own environment, which is made first
test-all: $(VENV)/.installed
	$(PYTEST)
	$(BIN)/python tests/zoo.py

# needs the public samples, downloaded or in the folder UMLIP_LATENTS_DATA
bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/run.py

# extracts anew what ships in data/features, and compares
features: $(VENV)/.installed
	$(BIN)/python data/features/make.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests data book
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tests/house.py

# pip would compile on one core
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
# Every file has one of the hashes of the lock, but for torch and the libraries that it brings: its
# builds for processors and for GPUs come from different places. It is there first, so that the lock
# does not fetch another build. Where all have a wheel (two never do, and CHGNet has none for Python
# 3.13), nothing is built.
ONLY_WHEELS = $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),--only-binary :all: \
  --no-binary nvidia-ml-py3 --no-binary python-hostlist $(if $(COMPILED),--no-binary $(COMPILED)))
COMPILED = $(shell $(PYTHON) -c "import sys; print('chgnet' * (sys.version_info >= (3, 13)))")
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and \
	  'Python %d.%d does not do: give one of 3.10 to 3.13, as in make PYTHON=python3.12 ...' % sys.version_info[:2])"
	@test -z "$(COMPILED)" || command -v gcc >/dev/null || \
	  { echo "CHGNet has no wheel for Python 3.13 and is compiled: install gcc, or use Python 3.12."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	torch=$$(grep -o '^torch==[^ ]*' requirements.lock) && \
	  $(INSTALL) --no-deps $$torch && \
	  $(INSTALL) --no-deps --require-hashes $(ONLY_WHEELS) -r requirements.lock && \
	  $(INSTALL) $$torch
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # some is for other Pythons
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
