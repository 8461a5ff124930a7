# Tools that don't read pyproject.toml look for this file; the metadata is in pyproject.toml.
from setuptools import setup

setup()
