"""Import the commands from `cli.py`, no longer from `__main__.py`."""

import re
from collections.abc import Mapping
from typing import Any

FILES = ["**.py", "**.ipynb"]


def migrate(files: Mapping[str, str], answers: Mapping[str, Any]) -> dict[str, str]:
    package = re.escape(answers["package_name"])
    imports = re.compile(rf"\bfrom ({package}|\.+)\.?__main__ import\b")

    def corrected(found: re.Match[str]) -> str:
        origin = found[1] if found[1].endswith(".") else f"{found[1]}."
        return f"from {origin}cli import"

    return {path: imports.sub(corrected, text) for path, text in files.items()}
