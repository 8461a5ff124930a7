"""Pictures: what the loader yields, how a run went, and where the model is wrong."""

from .plots import batch_grid, confusion_matrix, curves, worst_mistakes

__all__ = ["batch_grid", "confusion_matrix", "curves", "worst_mistakes"]
