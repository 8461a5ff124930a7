#!/usr/bin/env bash
# Test a checkpoint. For example: scripts/test.sh checkpoints/RUN
set -euo pipefail

root=$(dirname "${BASH_SOURCE[0]}")/..
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
# -P: modules of the current folder don't count.
exec "${PYTHON:-$python}" -P -m digits test "$@"
