"""What a measure found: one number for each round and side, and what can be said about them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

RATE, LATENCY = "jobs/s", "ms"

MEASURES = ("enqueue", "bulk", "store", "thread", "asyncio", "process", "pickup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One measure on one database. ``raw`` is empty where the bare driver has nothing to compare with.

    ``raw[n]`` and ``ours[n]`` were measured one right after the other, so that a ratio is made of two numbers which
    the same noise has touched.
    """

    database: str
    measure: str
    unit: str
    raw: Sequence[float]
    ours: Sequence[float]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Figures:
        """Read what ``as_dict`` returned."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over raw, round by round."""
        return tuple(ours / raw for raw, ours in zip(self.raw, self.ours, strict=True)) if self.raw else ()

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON: every round, and the summaries that the table shows."""
        summaries = {
            side: {"median": median(values), "min": min(values), "max": max(values)}
            for side, values in (("raw", self.raw), ("ours", self.ours), ("ratio", self.ratios))
            if values
        }
        return {**asdict(self), "summary": summaries}


def alternate(
    rounds: int, sides: Sequence[Callable[[], float]], before_each: Callable[[], None]
) -> list[tuple[float, ...]]:
    """Measure the sides in turn, A B A B …; return one tuple of numbers for each side.

    One round more is run and thrown away: it warms connections, caches and prepared statements.
    """
    results: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, result in zip(sides, results, strict=True):
            before_each()
            value = side()
            if number:
                result.append(value)
    return [tuple(result) for result in results]
