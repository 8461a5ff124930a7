#!/usr/bin/env bash
# Run a checkpoint on new inputs. For example: scripts/run.sh images/sample --checkpoint RUN
set -euo pipefail

root=$(dirname "${BASH_SOURCE[0]}")/..
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
# -P: modules of the current folder don't count.
exec "${PYTHON:-$python}" -P -m digits run "$@"
