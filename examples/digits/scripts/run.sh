#!/usr/bin/env bash
# Run a checkpoint on new inputs. For example: scripts/run.sh images/sample --checkpoint RUN
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
# The package of this folder, also where the folder was moved or copied after its installation.
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
# -P: modules of the current folder don't count.
exec "${PYTHON:-$python}" -P -m digits run "$@"
