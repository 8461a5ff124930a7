"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from ..config import Section, Text, parse_text

Name = Annotated[str, Field(min_length=1)]
MISSING = ("?", "NA", "N/A", "NaN", "nan", "null")


class Data(Section):
    """Tables in CSV files."""

    folder: str = "data"  # holds train/, valid/ and test/
    target: Name | list[Name] = "target"  # the column to predict, or several columns of numbers
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

    @property
    def targets(self) -> list[str]:
        """The columns to predict, also if it is one."""
        return [self.target] if isinstance(self.target, str) else self.target

    @field_validator("target", mode="before")
    @classmethod
    def _read_target(cls, value: object) -> object:
        if isinstance(value, Text):  # a name may look like a number, a list begins with a bracket
            value = parse_text(value) if value[:1] in ('"', "[") else str(value)
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("should be a column or a list of columns; put numbers in quotes")
        if len({*names}) < len(names):
            raise ValueError("has a column twice; remove one")
        return value

    @field_validator("task")
    @classmethod
    def _check_task(cls, task: str, info: ValidationInfo) -> str:
        if task == "classification" and isinstance(info.data.get("target"), list):
            raise ValueError("a classification has one target; set data.target to one column")
        return task
