"""Times at a regular step: numbers, seconds (so days and weeks, too) or months."""

import re
from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import isclose, isfinite

import numpy as np
from numpy.typing import NDArray

Time = datetime | float
Step = tuple[float, str]
"""How many of which unit: `steps` of plain numbers, `seconds` or `months`."""


def parse(text: str) -> Time:
    """A date (2026-01, 2026-01-31, 20260131, 2026-01-31 12:00, ...) or number; or ValueError."""
    if re.fullmatch(r"\d{4}-\d{2}", text):
        text += "-01"
    try:
        if not text.isdigit() or len(text) == 8:
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    if not isfinite(number := float(text)):
        raise ValueError(text)
    return number


def write(time: Time, like: str) -> str:
    """`time` in the form of another one."""
    if isinstance(time, float):
        return f"{time:.15g}"
    if len(like) == 7:
        return f"{time:%Y-%m}"
    if time.time() == datetime.min.time() and len(like) <= 10:
        return f"{time:%Y%m%d}" if like.isdigit() else time.date().isoformat()
    return time.isoformat(sep=" " if like[10:11] == " " else "T")


def positions(times: Sequence[Time]) -> tuple[NDArray[np.float64], str]:
    """How far each time lies from the first, and the unit.

    The unit is months where all times are the same day of different ones, or the last day.
    """
    first = times[0]
    if isinstance(first, float):
        return np.array([float(t) - first for t in times if isinstance(t, float)]), "steps"
    dates = [t for t in times if isinstance(t, datetime)]
    day, months = max(t.day for t in dates), [12 * t.year + t.month for t in dates]
    same = all((t.day, t.time()) == (_clip(day, t.year, t.month), first.time()) for t in dates)
    if same and len({*months}) == len(dates):
        return np.array(months, dtype=np.float64) - months[0], "months"
    return np.array([(t - first).total_seconds() for t in dates]), "seconds"


def after(times: Sequence[Time], step: Step, count: int) -> Time:
    """The time `count` steps after the last of `times`."""
    last, amount = times[-1], step[0] * count
    if isinstance(last, float):
        return last + amount
    if step[1] == "seconds":
        return last + timedelta(seconds=amount)
    years, month = divmod(last.month - 1 + round(amount), 12)
    day = max(t.day for t in times if isinstance(t, datetime))
    year, month = last.year + years, month + 1
    return last.replace(year=year, month=month, day=_clip(day, year, month))


def _clip(day: int, year: int, month: int) -> int:
    return min(day, monthrange(year, month)[1])


def same(one: Time, other: Time) -> bool:
    """Whether two times are one, but for the rounding of numbers."""
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def describe(step: Step) -> str:
    """A step for a person: 7 days, 1 hour."""
    size, unit = step
    if unit == "seconds":
        units = {86400: "days", 3600: "hours", 60: "minutes"}
        seconds = next((n for n in units if size % n == 0), 1)
        size, unit = size / seconds, units.get(seconds, unit)
    return f"{size:.15g} {unit[:-1] if size == 1 else unit}"
