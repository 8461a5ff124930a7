"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class Data(Section):
    """Images with boxes, in COCO's format."""

    folder: str = "data"  # holds train/, valid/ and test/
    image_size: Annotated[int, Field(ge=32, le=4096)] = 512  # pixels of a side
    channels: Literal[1, 3] = 3  # 1 grey, 3 colour
    batch_size: Annotated[int, Field(ge=1)] = 16
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read images
    score: Share = 0.4  # the lowest score of a box that is drawn and returned
    overlap: Share = 0.5  # of two boxes, above which the lower score is dropped
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
