"""Several ways to do one thing, measured side by side: one number for each round and way, and the table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One measure on one database. ``ways[name][n]`` are neighbours in time: the same noise has touched them.

    ``base`` names, for each way, the one that it is compared with; a way without one is compared with nothing.
    ``notes`` says of a way what its number is not comparable in.
    """

    measure: str
    database: str
    unit: str
    ways: Mapping[str, Sequence[float]]
    base: Mapping[str, str]
    notes: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Sides:
        """Read what ``as_dict`` returned."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    def ratios(self, way: str) -> tuple[float, ...]:
        """Return the way over its base, round by round; nothing if it has none."""
        base = self.base.get(way)
        if base is None:
            return ()
        return tuple(ours / theirs for ours, theirs in zip(self.ways[way], self.ways[base], strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON: every round, and the summaries that the table shows."""
        summaries = {
            way: {"median": median(values), "min": min(values), "max": max(values), "ratio": _middle(self.ratios(way))}
            for way, values in self.ways.items()
        }
        return {**asdict(self), "summary": summaries}


def table(measured: Iterable[Sides]) -> str:
    """Return a block of lines for each measure, with columns as wide as they need to be."""
    return "\n\n".join(_block(each) for each in measured)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return the lines, the first of which is the head, with columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths).rstrip(), *rows[1:]])


def spread(values: Sequence[float], places: int) -> str:
    """Write ``median (min - max)``; a dash for nothing."""
    if not values:
        return "-"
    middle, low, high = (f"{value:,.{places}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>7} ({low} - {high})"


def _block(each: Sides) -> str:
    lines = [(f"{each.measure}, {each.database}", each.unit, "times", "of", "")]
    for way, values in each.ways.items():
        ratios = each.ratios(way)
        note = each.notes.get(way, "")
        lines.append((way, spread(values, 1), spread(ratios, 2), each.base.get(way, ""), note))
    return columns(lines)


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None
