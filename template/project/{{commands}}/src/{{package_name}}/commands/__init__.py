"""Commands in addition to those of `cli.py`; each file has a function `add_to`."""
