"""Run as `python extensions/update`: the modules of this folder are then the package `update`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from update.commands import main  # noqa: E402

sys.exit(main())
