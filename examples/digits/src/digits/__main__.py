"""What `python -m` runs; the commands are in cli.py."""

import sys

from .cli import main as main  # for all who import it from here

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names
    sys.exit(main())
