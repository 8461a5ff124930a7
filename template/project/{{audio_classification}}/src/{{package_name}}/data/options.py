"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Sounds in a folder per class."""

    folder: str = "data"  # holds train/, valid/ and test/
    sample_rate: Annotated[int, Field(ge=1000, le=192_000)] = 16_000  # samples a second
    resample: bool = False  # convert files of other rates, or refuse them
    seconds: Annotated[float, Field(ge=0.1, le=600)] = 1.0  # of an input, padded or cut
    batch_size: Annotated[int, Field(ge=1)] = 32
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read sounds
    sampling: Literal["shuffle", "balanced"] = "shuffle"  # balanced: each class equally often
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
