"""A deep-learning project in plain PyTorch; `python -m` on this package lists its commands."""
