# Tools that don't read pyproject.toml look for this file; all metadata is over there.
from setuptools import setup

setup()
