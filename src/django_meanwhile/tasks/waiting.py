"""How long to pause between two looks at a job. Called by ``result.wait`` and its async twin."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.clock import Clock
from ..core.errors import ResultTimeout

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
"""Seconds. A result that is soon there is soon seen; a late one costs a query a second."""

_GROWTH = 1.4


def pauses(timeout: float | None, clock: Clock, what: str) -> Iterator[float]:
    """Yield seconds to sleep, longer each time; raise ``ResultTimeout`` once time is up.

    ``what`` names the job in that error. The last pause ends at the deadline, so a
    last look follows it.
    """
    started = clock.monotonic()
    pause = FIRST_PAUSE
    while timeout is None:
        yield pause
        pause = min(pause * _GROWTH, LONGEST_PAUSE)
    while (left := started + timeout - clock.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * _GROWTH, LONGEST_PAUSE)
    raise ResultTimeout(
        f"{what} did not end within {timeout:g} s; it may still do so. "
        "To see whether a worker serves it: manage.py meanwhile status"
    )
