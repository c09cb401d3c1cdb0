"""Made `weather.csv`: six years of daily weather in four invented places. Own work, free to use for anything.

    python generate.py > weather.csv

The seed is 20261125; the same seed gives the same file. Only `random()` is used, whose sequence Python guarantees.
"""

import math
import random
from datetime import date, timedelta
from typing import NamedTuple

SEED = 20261125
BEGINNING, END = date(2020, 1, 1), date(2025, 12, 31)


class Climate(NamedTuple):
    """What makes a place a place. Temperatures in degrees Celsius, rain in millimetres."""

    mean: float
    swing: float  # between the mean and the warmest time of the year
    spread: float  # between the lowest and the highest of a day
    warming: float  # in a year
    wet: float  # the share of days with rain
    rain: float  # on a day with rain, on average


PLACES = {
    "Aldermere": Climate(10.5, 6.0, 5.5, 0.05, 0.48, 4.2),  # by the sea
    "Corrano": Climate(17.0, 8.5, 9.5, 0.11, 0.19, 6.8),  # in the south
    "Fjellby": Climate(2.5, 11.0, 7.0, 0.16, 0.41, 3.1),  # in the north
    "Hochau": Climate(8.0, 9.5, 9.0, 0.00, 0.37, 5.0),  # in the hills
}


def lines() -> list[str]:
    """Return the file, line by line."""
    dice = random.Random(SEED)
    return [
        "place,day,low,high,rain",
        *(line for name, climate in PLACES.items() for line in _place(name, climate, dice)),
    ]


def _place(name: str, climate: Climate, dice: random.Random) -> list[str]:
    mood, found, day = 0.0, [], BEGINNING
    while day <= END:
        # Yesterday's deviation mostly stays; the sum of three dice is near enough to normal.
        mood = 0.78 * mood + 2.4 * (dice.random() + dice.random() + dice.random() - 1.5)
        years = (day - BEGINNING).days / 365.25
        season = -math.cos(2 * math.pi * (years - 20 / 365.25))
        middle = climate.mean + climate.swing * season + climate.warming * years + mood
        half = climate.spread * (0.3 + 0.4 * dice.random())
        rain = -climate.rain * math.log(1 - dice.random()) if dice.random() < climate.wet else 0.0
        found.append(f"{name},{day},{middle - half:.1f},{middle + half:.1f},{rain:.1f}")
        day += timedelta(days=1)
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
