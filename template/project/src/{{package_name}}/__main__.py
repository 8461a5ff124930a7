"""What `python -m` runs; the commands are in cli.py."""

import sys

from .cli import main as main  # other code may import it from here

if __name__ == "__main__":
    getattr(sys.stdout, "reconfigure", dict)(errors="backslashreplace")  # missing in notebooks
    sys.exit(main())
