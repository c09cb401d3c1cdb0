"""The table: a line for each measure, medians with their ranges. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.figures import Figures

HEADINGS = ("database", "measure", "unit", "raw driver", "ours", "ours / raw")


def table(figures: Iterable[Figures]) -> str:
    """Return the lines, with columns as wide as they need to be."""
    lines = [HEADINGS, *(_line(found) for found in figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths), *rows[1:]])


def _line(found: Figures) -> tuple[str, ...]:
    places = 1 if found.unit == "ms" else 0
    return (
        found.database,
        found.measure,
        found.unit,
        _spread(found.raw, places),
        _spread(found.ours, places),
        _spread(found.ratios, 2),
    )


def _spread(values: Sequence[float], places: int) -> str:
    """Write ``median (min - max)``; a dash for nothing."""
    if not values:
        return "-"
    middle, low, high = (f"{value:,.{places}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>7} ({low} - {high})"
