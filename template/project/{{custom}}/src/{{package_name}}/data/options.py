"""The options of the data section."""

from typing import Annotated

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Points in CSV files.

    Yours: the options of your data, one per line, each with type and default. The task has them as
    `self.data`. The engine needs `folder`, `batch_size`, `workers` and `transforms`.
    """

    folder: str = "data"  # holds train/, valid/ and test/
    normalize: bool = True  # scale by mean and deviation of the training points
    batch_size: Annotated[int, Field(ge=1)] = 32
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read samples
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
