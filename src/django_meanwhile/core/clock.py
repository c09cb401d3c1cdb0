"""The clock's protocol. ``conf`` makes the real one; tests make their own.

Only durations are measured with it. Lease, due and retention decisions are made
on the database's clock, inside the statements.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Monotonic time in seconds, comparable between the processes of one host."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary point that never moves."""
        ...
