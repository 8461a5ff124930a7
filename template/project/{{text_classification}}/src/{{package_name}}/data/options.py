"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Texts in a folder per class."""

    folder: str = "data"  # holds train/, valid/ and test/
    text: Literal["line", "file"] = "line"  # what counts as one text
    # The unit of a token; subwords are those of a pretrained model (extra transformers).
    tokens: Literal["characters", "words", "subwords"] = "characters"
    lowercase: bool = True  # convert texts to lower case first
    min_count: Annotated[int, Field(ge=1)] = 2  # rarer tokens of the training texts are "unknown"
    max_length: Annotated[int, Field(ge=1)] = 256  # tokens; longer texts are cut
    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that cut and augment texts
    sampling: Literal["shuffle", "balanced"] = "shuffle"  # balanced: each class equally often
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
