"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..config import Section

Name = Annotated[str, Field(min_length=1)]
MISSING = ("?", "NA", "N/A", "NaN", "nan", "null")


class Data(Section):
    """Tables in CSV files."""

    folder: str = "data"  # holds train/, valid/ and test/
    target: Name = "target"  # the column to predict
    task: Literal["regression", "classification"] = "regression"  # a number, or a class
    target_log: bool = False  # regression: learn the logarithm of the target
    ignore: list[Name] = Field(default_factory=list)  # columns that the model must not see
    numeric: list[Name] = Field(default_factory=list)  # columns that must hold numbers
    categorical: list[Name] = Field(default_factory=list)  # columns with categories
    missing: list[Name] = Field(default_factory=lambda: [*MISSING])  # missing values
    normalize: Literal["standard", "quantile"] = "standard"  # how numbers are scaled
    delimiter: Annotated[str | None, Field(min_length=1, max_length=1)] = None  # null: detected
    decimal: Literal[".", ","] | None = None  # of numbers; null: detected
    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that read rows
    sampling: Literal["shuffle", "balanced"] = "shuffle"  # balanced: each class equally often
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
