#!/usr/bin/env bash
# Train. For example: scripts/train.sh configs/train.yaml optimizer.lr=0.01
set -euo pipefail

root=$(dirname "${BASH_SOURCE[0]}")/..
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
# -P: modules of the current folder don't count.
exec "${PYTHON:-$python}" -P -m digits train "$@"
