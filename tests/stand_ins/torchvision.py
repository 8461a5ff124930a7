"""A stand-in for torchvision, of which timm imports names for its own data loading, which projects never call.

PyPI's builds of torchvision for Linux need a CUDA build of torch, and the tests run on any. All of timm's code for
models and weights is its own; this module gives it names to import, and an error if one is called.
"""

import sys
from enum import Enum
from types import ModuleType
from typing import Any


class FrozenBatchNorm2d:
    """A class that timm's conversion of batch norms looks for."""


class InterpolationMode(Enum):
    """The names in timm's tables."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def name(module: str, attribute: str) -> Any:
    """A class that timm may import and derive from, and that cannot be built."""
    if attribute.startswith("__"):
        raise AttributeError(attribute)

    def refuse(self: object, *_: object, **__: object) -> None:
        raise NotImplementedError(f"{module}.{attribute}: this torchvision is a stand-in of the tests")

    return type(attribute, (), {"__init__": refuse})


def module(path: str, **known: Any) -> ModuleType:
    """A module that defines any name."""
    made = ModuleType(path)
    made.__dict__.update(known, __getattr__=lambda attribute: name(path, attribute), __path__=[])
    sys.modules[path] = made
    return made


functional = module(f"{__name__}.transforms.functional", InterpolationMode=InterpolationMode)
transforms = module(f"{__name__}.transforms", functional=functional, InterpolationMode=InterpolationMode)
datasets = module(f"{__name__}.datasets")
misc = module(f"{__name__}.ops.misc", FrozenBatchNorm2d=FrozenBatchNorm2d)
ops = module(f"{__name__}.ops", misc=misc)
