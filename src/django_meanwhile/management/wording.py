"""Durations, times, counts and tables, as people read and write them. Pure; used by the subcommands."""

from __future__ import annotations

import argparse
import datetime as dt
import difflib
import json
import re
from collections.abc import Iterable, Sequence

from ..core.states import JobState
from ..fields import naive_utc
from ..logs import escape

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_LONGEST = 3650 * _UNITS["d"]


def parse_duration(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``15m``, ``2h``, ``1h30m``, ``7d``, ``2w``; for argparse."""
    compact = text.strip().lower().replace(" ", "")
    parts = _PART.findall(compact)
    if "".join(f"{number}{unit}" for number, unit in parts) == compact and parts:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(compact)
        except ValueError:
            seconds = -1.0
    if not 0 <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration of up to ten years; write it as in 90s, 15m, 2h, 1h30m, 7d"
        )
    return seconds


def duration(seconds: float) -> str:
    """Write a duration with its two largest units: ``4 s``, ``1 h 30 min``, ``7 d``."""
    if seconds < 10:  # noqa: PLR2004 - below ten, a tenth matters
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    parts = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, whole = divmod(whole, size)
        if number:
            parts.append(f"{number} {name}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def utc(value: dt.datetime | None) -> str | None:
    """Write a model's time as ISO 8601 in UTC, to the millisecond."""
    return None if value is None else f"{naive_utc(value).isoformat(timespec='milliseconds')}Z"


def bounded(number: int, limit: int) -> str:
    """Write a count that was stopped at ``limit``."""
    return f"{number}+" if number >= limit else str(number)


def or_more(number: int, limit: int) -> str:
    """Write a count that was stopped at ``limit``, in a sentence."""
    return f"{number} or more" if number >= limit else str(number)


def jobs(number: int, limit: int | None = None) -> str:
    """Write a number of jobs."""
    return f"{number if limit is None else bounded(number, limit)} {'job' if number == 1 else 'jobs'}"


def one_of(names: Iterable[str]) -> str:
    """Write a choice of names."""
    return ", ".join(f'"{name}"' for name in names) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the name that was meant, or list all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'Did you mean "{near[0]}"?' if near else f"There is: {one_of(known)}."


def states(text: str) -> tuple[JobState, ...]:
    """Return the states of ``failed,quarantined``; for argparse."""
    names = [name.strip() for name in text.lower().split(",") if name.strip()]
    known = [state.name.lower() for state in JobState]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"{escape(name)!r} is no state of a job. {did_you_mean(escape(name), known)}"
            )
    if not names:
        raise argparse.ArgumentTypeError(f"{escape(text)!r} names no state. There is: {one_of(known)}.")
    return tuple(sorted({JobState[name.upper()] for name in names}))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Align columns; those in ``right`` to the right. Values are escaped."""
    lines = [tuple(head), *(tuple(escape(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    flush_right = set(right)

    def align(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if column in flush_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [align(line) for line in lines]


def pretty_json(text: str) -> str:
    """Indent stored JSON; what is none comes back as it is. May hold control characters: escape its lines."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def indented(text: str, margin: str = "    ") -> str:
    """Indent a text of several lines, each of them escaped."""
    return "\n".join(f"{margin}{escape(line)}".rstrip() for line in text.rstrip("\n").split("\n"))
