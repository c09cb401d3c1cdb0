"""Writes a study to a file: one page of HTML with its chart in it, at home anywhere. Never half a file."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string

from .climate import Climate, Month

WIDTH, HEIGHT, MARGIN = 720, 260, 34


def path_of(job_id: str) -> Path:
    """Return where the report of a job is, or will be."""
    return Path(settings.MEDIA_ROOT) / "reports" / f"{job_id}.html"


def write(job_id: str, found: Climate) -> int:
    """Write the file of a job whole or not at all; return its size. Writing it again changes nothing."""
    text = render_to_string("paper.html", {"climate": found, "chart": chart(found), "years": _years(found.months)})
    path = path_of(job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path.stat().st_size


def _years(months: list[Month]) -> list[dict[str, object]]:
    years = []
    for year in sorted({month.year for month in months}):
        of_year = [month for month in months if month.year == year]
        middle = sum((month.low + month.high) / 2 for month in of_year) / len(of_year)
        warmest = max(of_year, key=lambda month: month.high)
        years.append({"year": year, "middle": middle, "rain": sum(m.rain for m in of_year), "warmest": warmest})
    return years


def chart(found: Climate) -> str:
    """Draw the months as a band from low to high, with the trend through it."""
    top = max(month.high for month in found.months)
    bottom = min(month.low for month in found.months)
    count = len(found.months)

    def x(n: float) -> float:
        return MARGIN + n * (WIDTH - 1.5 * MARGIN) / (count - 1)

    def y(degrees: float) -> float:
        return MARGIN / 2 + (top - degrees) * (HEIGHT - 1.5 * MARGIN) / (top - bottom)

    upper = [f"{x(n):.1f},{y(month.high):.1f}" for n, month in enumerate(found.months)]
    lower = [f"{x(n):.1f},{y(month.low):.1f}" for n, month in enumerate(found.months)]
    middle = sum((month.low + month.high) / 2 for month in found.months) / count
    rise = found.trend * count / 240
    lines = "".join(
        f'<line class="grid" x1="{MARGIN}" x2="{WIDTH - MARGIN / 2}" y1="{y(degrees):.1f}" y2="{y(degrees):.1f}"/>'
        f'<text x="{MARGIN - 6}" y="{y(degrees) + 4:.1f}" text-anchor="end">{degrees}°</text>'
        for degrees in range(-20, 45, 10)
        if bottom <= degrees <= top
    )
    years = "".join(
        f'<text x="{x(n):.1f}" y="{HEIGHT - 8}">{month.year}</text>'
        for n, month in enumerate(found.months)
        if month.month == 1
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Monthly temperatures of {escape(found.place)}">'
        f'{lines}{years}<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>'
        f'<line class="trend" x1="{x(0):.1f}" y1="{y(middle - rise):.1f}" x2="{x(count - 1):.1f}" '
        f'y2="{y(middle + rise):.1f}"/></svg>'
    )
