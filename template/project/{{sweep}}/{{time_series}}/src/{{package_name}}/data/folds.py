"""Why `sweep --folds` doesn't divide series."""

from pathlib import Path

from ..errors import UserError
from .options import Data


def samples(folder: Path, options: Data) -> list[tuple[object, None, list[Path]]]:
    """Raise UserError: a fold would be forecast by a model that was trained on later values."""
    why = "a fold would be forecast by a model that was trained on later values"
    raise UserError(f"--folds: not for time series: {why}; use --seeds")
