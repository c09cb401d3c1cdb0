"""What the tour says. What is held must be true on every machine; what is measured is only printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


class Told:
    """Prints, and remembers what did not hold."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(text, flush=True)

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self.say(f"\n{title}")

    def hold(self, what: str, truth: object, seen: object) -> None:
        """Print one line about what must be true; remember it if it is not."""
        self.say(f"  {'✓' if truth else '✗'} {what}: {seen}")
        if not truth:
            self.broken.append(what)


def milliseconds(seconds: float) -> str:
    """Return a short time for people."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms".replace(",", " ")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many percent of all do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
