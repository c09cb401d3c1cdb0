"""Who holds a named lock, for people: in ``LockTimeout``, and wherever somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A thread of a process of a host. What is not known is None."""

    host: str | None = None
    pid: int | None = None
    thread: str | None = None
    #: By the database's clock, in UTC.
    since: datetime | None = None

    def __str__(self) -> str:
        since = f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else None
        named = [
            f"{word} {value}"
            for word, value in (
                ("host", self.host),
                ("process", self.pid),
                ("thread", self.thread),
                ("since", since),
            )
            if value is not None
        ]
        return ", ".join(named) or "a session that tells nothing of itself"
