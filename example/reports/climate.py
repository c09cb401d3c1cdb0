"""What the weather of a place was like: plain statistics in plain Python, which keep one core busy. No Django here."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple

STEPS = 50
Tell = Callable[[int, int, str], None]


class Day(NamedTuple):
    """One observation."""

    day: date
    low: float
    high: float
    rain: float


class Month(NamedTuple):
    """One month of one year."""

    year: int
    month: int
    low: float
    high: float
    rain: float


class Spell(NamedTuple):
    """Days in a row that have something in common."""

    first: date | None
    days: int


@dataclass(frozen=True)
class Climate:
    """What a report is about. Temperatures in degrees Celsius, rain in millimetres, trends in degrees a decade."""

    place: str
    months: list[Month]
    trend: float
    trend_low: float
    trend_high: float
    resamples: int
    hottest: Day
    coldest: Day
    heat: Spell
    drought: Spell

    def in_brief(self) -> dict[str, Any]:
        """Return what a page needs of it."""
        return {"place": self.place, "trend": self.trend, "bounds": [self.trend_low, self.trend_high]}


def study(place: str, days: Sequence[Day], resamples: int, tell: Tell) -> Climate:
    """Study a place; `tell(n, of, what)` hears how far it is."""
    months = _months(days)
    trend, low, high = _trend(months, resamples, lambda n, of: tell(n, of, f"resampling six years of {place}"))
    hot = statistics.quantiles([day.high for day in days], n=20)[-1]
    return Climate(
        place=place,
        months=months,
        trend=trend,
        trend_low=low,
        trend_high=high,
        resamples=resamples,
        hottest=max(days, key=lambda day: day.high),
        coldest=min(days, key=lambda day: day.low),
        heat=_longest(days, lambda day: day.high >= hot),
        drought=_longest(days, lambda day: day.rain == 0),
    )


def _months(days: Iterable[Day]) -> list[Month]:
    found = []
    for (year, month), group in groupby(days, key=lambda day: (day.day.year, day.day.month)):
        of_month = list(group)
        low = statistics.fmean(day.low for day in of_month)
        high = statistics.fmean(day.high for day in of_month)
        found.append(Month(year, month, low, high, sum(day.rain for day in of_month)))
    return found


def _trend(months: list[Month], resamples: int, tell: Callable[[int, int], None]) -> tuple[float, float, float]:
    """Return the warming in a decade, and between which bounds it lies with 95 % (bootstrap of the months)."""
    middles = [(month.low + month.high) / 2 for month in months]
    usual = [statistics.fmean(middles[start::12]) for start in range(12)]
    points = [(n / 120, middle - usual[n % 12]) for n, middle in enumerate(middles)]
    dice = random.Random(len(points))  # the same report each time that it is written
    slopes = []
    for step in range(STEPS):
        slopes += [_slope(dice.choices(points, k=len(points))) for _ in range(resamples // STEPS)]
        tell(step + 1, STEPS)
    slopes.sort()
    return _slope(points), slopes[len(slopes) // 40], slopes[-1 - len(slopes) // 40]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    n = len(points)
    middle_x = sum(x for x, _ in points) / n
    middle_y = sum(y for _, y in points) / n
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def _longest(days: Iterable[Day], has: Callable[[Day], bool]) -> Spell:
    longest = Spell(None, 0)
    for fits, group in groupby(days, key=has):
        spell = list(group)
        if fits and len(spell) > longest.days:
            longest = Spell(spell[0].day, len(spell))
    return longest
