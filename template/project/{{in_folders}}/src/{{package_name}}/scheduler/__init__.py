"""Your schedulers, in as many files as you like; helper functions belong in `utils.py`."""
