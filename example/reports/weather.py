"""Reads the weather: the bundled file for the migration, the database for everybody else."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from django.db import connection

from .climate import Day
from .models import Observation

Pair = dict[str, Any]

BUNDLED = Path(__file__).parent / "data" / "weather.csv"
PLACES = ("Aldermere", "Corrano", "Fjellby", "Hochau")

# Every day against every later day of the same place: about ten million pairs, and no index that would help.
TWINS = """
    SELECT a.place, a.day, b.day,
           round(abs(a.low - b.low) + abs(a.high - b.high) + abs(a.rain - b.rain), 1) AS difference,
           a.low, a.high, a.rain
    FROM reports_observation a
    JOIN reports_observation b ON b.place = a.place AND b.id > a.id
    WHERE a.rain > %s AND b.rain > %s
    ORDER BY difference, a.day, a.id, b.day
    LIMIT %s
"""


def bundled() -> Iterator[dict[str, Any]]:
    """Read the bundled file."""
    with BUNDLED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {
                "place": row["place"],
                "day": date.fromisoformat(row["day"]),
                "low": float(row["low"]),
                "high": float(row["high"]),
                "rain": float(row["rain"]),
            }


def days_of(place: str) -> list[Day]:
    """Return all days of a place, in order."""
    rows = Observation.objects.filter(place=place).order_by("day").values_list("day", "low", "high", "rain")
    return [Day(*row) for row in rows]


def twins(wet: float, count: int) -> list[Pair]:
    """Return the pairs of days at one place that were most alike, of those with more than `wet` mm of rain."""
    with connection.cursor() as cursor:
        cursor.execute(TWINS, [wet, wet, count])
        columns = ["place", "day", "twin", "difference", "low", "high", "rain"]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
