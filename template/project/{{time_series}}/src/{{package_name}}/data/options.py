"""The options of the data section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from ..config import Section

Name = Annotated[str, Field(min_length=1)]


class Data(Section):
    """Windows of series in CSV files."""

    folder: str = "data"  # holds train/, valid/ and test/
    time_column: Annotated[str | None, Field(min_length=1)] = None  # null: detected
    time_format: Annotated[str | None, Field(min_length=1)] = None  # as %d/%m/%Y; null: ISO 8601
    series_column: Annotated[str | None, Field(min_length=1)] = None  # of long tables: whose row
    columns: list[Name] = Field(default_factory=list)  # the series to forecast; none: all
    known: list[Name] = Field(default_factory=list)  # columns whose future is known: only inputs
    calendar: list[Literal["hour", "weekday", "day", "month", "yearday"]] = Field(
        default_factory=list
    )  # positions in these cycles, as further inputs
    context: Annotated[int, Field(ge=2)] = 96  # steps of the past that a forecast sees
    horizon: Annotated[int, Field(ge=1)] = 24  # steps that it looks ahead
    season: Annotated[int, Field(ge=1)] = 24  # steps of a period, for the seasonal-naive forecast
    stride: Annotated[int, Field(ge=1)] = 1  # steps from one window to the next
    missing: Literal["refuse", "interpolate"] = "refuse"  # empty cells and missing rows
    scaling: Literal["window", "train"] = "window"  # standardize by these values
    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # processes that cut windows
    transforms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)

    @field_validator("known")
    @classmethod
    def _is_not_forecast(cls, known: list[str], info: ValidationInfo) -> list[str]:
        if both := [name for name in known if name in info.data.get("columns", [])]:
            raise ValueError(f"{both[0]!r} is also in data.columns; remove it from one of them")
        return known

    @field_validator("season")
    @classmethod
    def _has_been_seen(cls, season: int, info: ValidationInfo) -> int:
        if season > info.data.get("context", season):
            context = info.data["context"]
            advice = f"set data.context={season} or more, or data.season=1"
            raise ValueError(f"should be at most data.context, which is {context}; {advice}")
        return season
