"""Your schedulers, in as many files as you like; `utils.py` is for what is none."""
