"""The training loop and what it stands on; not about any kind of data."""
