"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Images with a mask each."""

    folder: str = "data"  # holds train/, valid/, test/ and classes.txt
    max_size: Annotated[int | None, Field(ge=16)] = None  # pixels of the longer side, at most
    channels: Literal[1, 3] = 1  # 1 grey, 3 colour
    batch_size: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read images
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
