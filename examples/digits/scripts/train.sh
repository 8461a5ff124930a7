#!/usr/bin/env bash
# Train. For example: scripts/train.sh configs/train.yaml optimizer.lr=0.01
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
# Import the package from this folder, even if the folder was moved or copied after installation.
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
# -P: don't import modules from the current folder.
exec "${PYTHON:-$python}" -P -m digits train "$@"
