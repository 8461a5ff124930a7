"""What `python -m` runs; the commands are in cli.py."""

import sys

from .cli import main as main  # for all who import it from here

if __name__ == "__main__":
    getattr(sys.stdout, "reconfigure", dict)(errors="backslashreplace")  # a notebook's has none
    sys.exit(main())
