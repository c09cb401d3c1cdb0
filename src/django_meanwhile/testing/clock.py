"""Later, without waiting: moves the clock that decides what is due.

That clock is the database's; our statements add an offset to it, in this process only. ``timezone.now()`` in
the project's code does not move: combine it with a library that patches Python's clock where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from ..store import get_store
from .backends import database_backend, database_backends

if TYPE_CHECKING:
    from ..store import Store


@contextmanager
def travel(
    delta: timedelta | None = None,
    *,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    backend: str | None = None,
) -> Iterator[None]:
    """Let the queue's clock be so much later inside the block; blocks add up.

    Without ``backend``, for every backend of ours in ``TASKS``.
    """
    total = (delta or timedelta()) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    backends = [database_backend(backend, "travel()")] if backend else database_backends()
    with ahead([get_store(alias) for alias in dict.fromkeys(one.database for one in backends)], total.total_seconds()):
        yield


@contextmanager
def ahead(stores: list[Store], seconds: float) -> Iterator[None]:
    """Add ``seconds`` to the clock of these stores. Differences, not values: blocks may end in any order."""
    for store in stores:
        store.offset += seconds
    try:
        yield
    finally:
        for store in stores:
            store.offset -= seconds
