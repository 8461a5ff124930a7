"""Times at a regular step: numbers, seconds (so days and weeks, too) or months."""

import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import inf, isclose, isfinite, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

Time = datetime | float
Step = tuple[float, str]
"""A size and its unit: `steps` (of plain numbers), `seconds` or `months`."""


QUARTER = re.compile(r"(\d{4})([- ]?)[Qq]([1-4])")
DATES = ["%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y"]
DATES += ["%m/%d/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%b %d %Y"]
DATES += ["%b-%d-%Y", "%d %B %Y", "%B %d, %Y", "%b %Y", "%B %Y", "%b-%y", "%YM%m"]
HOURS = ["", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H.%M.%S"]
# Cycles of the calendar: the days from which on a step has no position in it, its length, and the
# position of a date.
CYCLES: dict[str, tuple[int, int, Callable[[datetime], float]]] = {
    "hour": (1, 24, lambda time: time.hour + time.minute / 60),
    "weekday": (7, 7, datetime.weekday),
    "day": (28, 31, lambda time: time.day - 1),
    "month": (365, 12, lambda time: time.month - 1),
    "yearday": (365, 366, lambda time: time.timetuple().tm_yday - 1),
}


def parse(text: str, form: str | None = None) -> Time:
    """Parse a time in `form`, a format of `strptime`; without it, a date or number; or ValueError.

    A date is 2026-01, 2026-01-31, 20260131, 2026-01-31 12:00 (ISO 8601), or 2026Q1.
    """
    if form:
        return datetime.strptime(text, form)
    if re.fullmatch(r"\d{4}-\d{2}", text):
        text += "-01"
    elif quarter := QUARTER.fullmatch(text):
        return datetime(int(quarter[1]), 3 * int(quarter[3]) - 2, 1)
    try:
        if not text.isdigit() or len(text) == 8:
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    if not isfinite(number := float(text)):
        raise ValueError(text)
    return number


def parse_all(texts: Sequence[str], form: str | None = None) -> list[Time]:
    """Parse all of `texts` like `parse`."""
    if not form and not any(map(str.isdigit, texts)):
        try:
            return list(map(datetime.fromisoformat, texts))  # faster than `parse`
        except ValueError:
            pass
    return [parse(text, form) for text in texts]


def formats(texts: Iterable[str]) -> list[str]:
    """Formats of `strptime` that fit all of `texts`: several if day and month are ambiguous."""
    found = [date + hour for date in DATES for hour in HOURS]
    for text in texts:
        found = [form for form in found if _fits(text, form)]
    return found


def _fits(text: str, form: str) -> bool:
    try:
        return bool(datetime.strptime(text, form))
    except ValueError:
        return False


def write(time: Time, like: str, form: str | None = None) -> str:
    """Format `time` like the text `like`, or in `form`, a format of `strptime`."""
    if form and isinstance(time, datetime):
        return time.strftime(form)
    if isinstance(time, datetime) and (quarter := QUARTER.fullmatch(like)):
        return f"{time.year}{quarter[2]}Q{(time.month + 2) // 3}"
    if isinstance(time, float):
        return f"{time:.15g}"
    if len(like) == 7:
        return f"{time:%Y-%m}"
    if time.time() == datetime.min.time() and len(like) <= 10:
        return f"{time:%Y%m%d}" if like.isdigit() else time.date().isoformat()
    return time.isoformat(sep=" " if like[10:11] == " " else "T")


def positions(times: Sequence[Time]) -> tuple[NDArray[np.float64], str]:
    """The distance of each time from the first, and its unit.

    The unit is months if all times are on the same day, or the last day, of different months.
    Raises TypeError for times that can't be compared.
    """
    first: Any = times[0]
    if isinstance(first, float):
        return np.array([t - first for t in times]), "steps"  # type: ignore[operator]
    seconds = np.array([(t - first).total_seconds() for t in times])
    if len(times) > 1 and abs(seconds[1]) < 28 * 86400:
        return seconds, "seconds"
    dates = [t for t in times if isinstance(t, datetime)]
    day, months = max(t.day for t in dates), [12 * t.year + t.month for t in dates]
    same = all((t.day, t.time()) == (_clip(day, t.year, t.month), first.time()) for t in dates)
    if same and len({*months}) == len(dates):
        return np.array(months, dtype=np.float64) - months[0], "months"
    return seconds, "seconds"


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


def calendar(times: Sequence[Time], step: Step, cycles: Sequence[str]) -> NDArray[np.float32]:
    """Sine and cosine of the position of each time in each cycle: (2 * cycles, times).

    Raises ValueError if the times are numbers, or so far apart that the cycle has no positions.
    """
    days = step[0] * {"seconds": 1 / 86400, "months": 30.5}.get(step[1], inf)
    dates, rows = [time for time in times if isinstance(time, datetime)], list[Any]()
    for cycle in cycles:
        least, length, position = CYCLES[cycle]
        if days >= least:
            found = "numbers" if days == inf else f"{describe(step)} apart"
            need = f"{cycle!r} needs dates less than {describe((86400 * least, 'seconds'))} apart"
            raise ValueError(f"{need}; the times are {found}")
        angles = 2 * pi / length * np.array(list(map(position, dates)))
        rows += [np.sin(angles), np.cos(angles)]
    return np.array(rows, np.float32).reshape(-1, len(times))


def _clip(day: int, year: int, month: int) -> int:
    return min(day, monthrange(year, month)[1])


def same(one: Time, other: Time) -> bool:
    """Whether two times are equal, up to rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def describe(step: Step) -> str:
    """A readable step: 7 days, 1 hour."""
    size, unit = step
    if unit == "seconds":
        units = {86400: "days", 3600: "hours", 60: "minutes"}
        seconds = next((n for n in units if size % n == 0), 1)
        size, unit = size / seconds, units.get(seconds, unit)
    return f"{size:.15g} {unit[:-1] if size == 1 else unit}"
