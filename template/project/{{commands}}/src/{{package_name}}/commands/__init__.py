"""Commands beside those of `cli.py`: each file has an `add_to`."""
