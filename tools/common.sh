# Read by the other scripts: starts in the project folder, uses its virtual environment, stops at
# the first error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1

# Tests run in one process for each core; more threads inside them would only wait for each other.
test_alone() { OMP_NUM_THREADS=1 python -m pytest -q -rs --numprocesses "${MAX_JOBS:-auto}" "$@"; }

say() { echo "==> $*"; }

stop() {
  echo "make: stopped: $*" >&2
  exit 1
}

# Sets `nvcc`, or says what is missing.
find_nvcc() {
  nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null) ||
    stop "there is no nvcc. Install the CUDA toolkit (13.0 is tested) and put nvcc into PATH."
}

# Make .venv-cuda with a CUDA build of torch and what a build needs; put it and nvcc into PATH.
use_cuda_venv() {
  make_venv .venv-cuda
  if [ ! -e .venv-cuda/ready ]; then
    say "installing ${CUDA_TORCH:=torch==2.14.1} into .venv-cuda: gigabytes"
    .venv-cuda/bin/pip install --quiet "$CUDA_TORCH" numpy cmake ninja setuptools
    touch .venv-cuda/ready
  fi
  export PATH="$PWD/.venv-cuda/bin:$(dirname "$nvcc"):$PATH"
  cuda_python=$PWD/.venv-cuda/bin/python
}

# Build with the pip of `cuda_python`; $1 is the log, the rest says what and where to.
build_for_cuda() {
  local log=$1
  shift
  say "building masked_attn for CUDA"
  "$cuda_python" -m pip install --verbose --no-build-isolation "$@" > "$log" 2>&1 || {
    tail -n 60 "$log" >&2
    stop "the build failed; the whole log is $log"
  }
}

# Make the virtual environment $1, or say how to get what is missing.
make_venv() {
  [ -x "$1/bin/python" ] && return
  local python=${PYTHON:-python3}
  command -v "$python" > /dev/null ||
    stop "there is no $python. Run: sudo apt-get install python3 python3-venv python3-dev"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "$python is $("$python" --version), masked_attn needs 3.10 or newer. Run: make PYTHON=python3.11 ..."
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    stop "$python cannot make virtual environments. Run: sudo apt-get install python3-venv"
  say "creating the virtual environment $1 ($("$python" --version))"
  "$python" -m venv "$1"
}
