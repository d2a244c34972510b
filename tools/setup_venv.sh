#!/bin/bash
# Creates .venv with torch, the build tools and the tools of developers.
source "$(dirname "$0")/common.sh"

make_venv .venv
say "installing ${TORCH:=torch==2.13.0} into .venv (the long step when nothing is cached)"
python -m pip install -qq "$TORCH"
say "installing build tools, ${TRANSFORMERS:=transformers} and formatters into .venv"
python -m pip install -qq --requirement tools/requirements-dev.txt "$TRANSFORMERS"
touch .venv/ready
