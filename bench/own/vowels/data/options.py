"""The options of the data section."""

from typing import Annotated

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Utterances in JSON files."""

    folder: str = "data"  # holds train/, valid/ and test/
    speakers: Annotated[int, Field(ge=2)] = 9
    batch_size: Annotated[int, Field(ge=1)] = 32
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
