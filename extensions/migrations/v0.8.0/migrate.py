"""`data/dataset.py` opens no image of a format that may start a program.

Without `formats`, PIL goes by the content alone: an EPS file called `x.png` starts Ghostscript. Each call with one
plain argument gets it.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

FILES = ["src/*/data/dataset.py"]
CALL = re.compile(r"\bImage\.open\(\s*([\w.]+)\s*\)")
FORMATS = 'FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # others may start programs\n'


def migrate(files: Mapping[str, str], answers: Mapping[str, Any]) -> dict[str, str]:
    return {path: limited(text) for path, text in files.items() if CALL.search(text)}


def limited(text: str) -> str:
    text = CALL.sub(r"Image.open(\1, formats=FORMATS)", text)
    body = ast.parse(text).body
    names = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    if any(isinstance(name, ast.Name) and name.id == "FORMATS" for name in names):
        return text
    end = max(node.end_lineno or 0 for node in body if isinstance(node, (ast.Import, ast.ImportFrom)))
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:end], "\n", FORMATS, *lines[end:]])
