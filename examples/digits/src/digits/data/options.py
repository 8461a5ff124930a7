"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Images in a folder per class."""

    folder: str = "data"  # holds train/, valid/ and test/
    image_size: Annotated[int, Field(ge=8, le=2048)] = 32  # pixels of a side
    channels: Literal[1, 3] = 1  # 1 grey, 3 colour
    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read images
    sampling: Literal["shuffle", "balanced"] = "shuffle"  # balanced: each class equally often
    cache: bool = False  # keep each image in memory once it is read, as bytes
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
