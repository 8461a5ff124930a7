"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section


class Data(Section):
    """Text files, as sequences of characters, bytes or subwords."""

    folder: str = "data"  # holds train/, valid/ and test/
    # Of bytes, nothing is unknown; subwords are those of a pretrained model (extra transformers).
    tokens: Literal["characters", "bytes", "subwords"] = "characters"
    context: Annotated[int, Field(ge=8, le=65536)] = 64  # the most tokens a model sees at once
    batch_size: Annotated[int, Field(ge=1)] = 16  # windows of `context` tokens
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that cut windows
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    # Text generation
    generate: Annotated[int, Field(ge=1)] = 300  # tokens, unless the document ends before
    temperature: Annotated[float, Field(ge=0)] = 0.6  # 0: always the likeliest token
    top_k: Annotated[int | None, Field(ge=1)] = None  # sample from the k likeliest; null: all
