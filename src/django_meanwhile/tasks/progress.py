"""How far a job says it is: what ``result.progress`` holds."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``current`` of ``total``, and what is being done, as the body last reported it."""

    current: float
    total: float | None = None
    message: str = ""

    @property
    def percent(self) -> float | None:
        """From 0 to 100; None without a total."""
        if not self.total:
            return None
        return min(max(100.0 * self.current / self.total, 0.0), 100.0)

    @classmethod
    def read(cls, text: str | None) -> Progress | None:
        """Read a row's ``progress``: ``{"n": …, "total": …, "message": …}``."""
        if not text:
            return None
        stored = json.loads(text)
        return cls(current=stored["n"], total=stored.get("total"), message=stored.get("message") or "")
