# Thin: what is longer than a line is in tools/. Everything is installed into .venv in this folder.
#   make PYTHON=python3.12 TORCH=torch==2.13.0 build     other Python or torch
#   make TRANSFORMERS=transformers==5.23.0 test          not the newest transformers
#   MAX_JOBS=4 make build                                fewer compilers at once

PYTHON ?= python3
TORCH ?= torch==2.13.0
TRANSFORMERS ?= transformers
export PYTHON TORCH TRANSFORMERS

# Tests and the demo use this folder's packages only, and no network.
export PYTHONNOUSERSITE = 1
export HF_HUB_OFFLINE = 1
unexport PYTHONPATH VIRTUAL_ENV

BUILD_FILES := CMakeLists.txt setup.py pyproject.toml $(shell find csrc cmake -type f)
TORCH_FILE := $(wildcard .venv/lib/python3*/site-packages/torch/version.py)

.PHONY: help demo test test-transformers test-torch newer model-types test-machines mutants sanitize \
        cuda-compile cuda-check gpu cuda-sanitize build feature-table format lint clean

help:
	@echo "make demo               finish three prompts with the patched GPT-2, and compare"
	@echo "make test               C++ and Python tests"
	@echo "make test-transformers  integration tests with every tested transformers and the newest"
	@echo "make test-torch         operator tests with every torch that pip has a CPU build of"
	@echo "make newer              is there a newer transformers or torch than was tested?"
	@echo "make test-machines      operator tests with other instruction sets and other random numbers"
	@echo "make mutants            break the code on purpose, bug by bug: which tests notice?"
	@echo "make model-types        every model type of transformers with our attention (half an hour)"
	@echo "make sanitize           C++ tests of the kernels under ASAN and UBSAN (fifteen minutes)"
	@echo "make cuda-compile       compile the CUDA kernels with nvcc: registers, shared memory, spills"
	@echo "make cuda-check         build for a CUDA torch (5 GB) and import it; needs no GPU"
	@echo "make gpu                on a machine with a GPU: CUDA tests and benchmarks, one table"
	@echo "make cuda-sanitize      on a GPU, after make gpu: CUDA tests under compute-sanitizer"
	@echo "make build              create .venv, install torch and build tools, build masked_attn"
	@echo "make lint, make format  check or rewrite the layout of files; lint checks types too"
	@echo "make feature-table      write the table of docs/features.md from its data"
	@echo "make clean              remove what was built (the virtual environments stay)"

.venv/ready: tools/setup_venv.sh tools/requirements-dev.txt
	@tools/setup_venv.sh

.venv/built: .venv/ready tools/build.sh $(BUILD_FILES) $(TORCH_FILE)
	@tools/build.sh

build: .venv/built

demo: build
	@.venv/bin/python -m masked_attn generate "It will rain in the" \
	  "I want to eat a big bowl of" "My dog is" --compare

test: build
	@tools/test.sh

test-transformers: build
	@tools/test_transformers.sh

test-torch: .venv/ready
	@tools/test_torch.sh

newer:
	@$(or $(wildcard .venv/bin/python),$(PYTHON)) tools/newer_releases.py

test-machines: build
	@tools/test_machines.sh

mutants: build
	@PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/python tools/mutate.py

model-types: build
	@.venv/bin/python tools/every_model_type.py

sanitize: .venv/ready
	@tools/sanitize.sh

cuda-compile: .venv/ready
	@tools/cuda_compile.sh

cuda-check:
	@tools/cuda_check.sh

gpu:
	@tools/gpu.sh

cuda-sanitize:
	@tools/cuda_sanitize.sh

lint: build
	@tools/lint.sh

feature-table: build
	@.venv/bin/python tools/feature_table.py

format: .venv/ready
	@tools/format.sh

clean:
	rm -rf build dist .venv/built python/masked_attn/*.so python/*.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find python tests tools examples benchmarks -name __pycache__ -type d -exec rm -rf {} +
