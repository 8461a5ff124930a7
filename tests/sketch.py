"""Replace `Figure.savefig`, so that figures are created but not drawn: drawing takes half of a small training.

Warm commands import this if SKETCH=1 is set. test_kinds.py draws the figures of each kind: in its training, its test
and its notebooks, and in the default project's own tests.
"""

import base64
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write a picture of one pixel."""
    Path(path).write_bytes(base64.b64decode(PNG))


def find_nothing(figure: Figure, *_: Any, **options: Any) -> list[Any]:
    """No artists: `charts.write` looks for texts, which creates all ticks."""
    return []


Figure.savefig = save  # type: ignore[assignment, method-assign]
Figure.findobj = find_nothing  # type: ignore[assignment, method-assign]
