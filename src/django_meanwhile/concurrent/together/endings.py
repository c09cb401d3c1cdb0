"""What a call of a scope has ended with: an error of its own, or what came of being stopped. Called by ``scope``."""

from __future__ import annotations

import asyncio
from concurrent import futures
from typing import Any

_QUERY_CANCELED = "57014"  # PostgreSQL's SQLSTATE
_SQLITE_INTERRUPT = 9


class ShuttingDown(RuntimeError):
    """A call that came too late, because the scope is being stopped."""


def came_of_stopping(error: BaseException) -> bool:
    """Whether an error is, or was raised because of, a cancelled call or query."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, futures.CancelledError | asyncio.CancelledError | ShuttingDown):
            return True
        if isinstance(link, BaseExceptionGroup) and all(map(came_of_stopping, link.exceptions)):
            return True
        state = getattr(link, "sqlstate", None) or getattr(link, "pgcode", None)
        if state == _QUERY_CANCELED or getattr(link, "sqlite_errorcode", None) == _SQLITE_INTERRUPT:
            return True
        link = link.__cause__ or link.__context__
    return False


def error_of(future: Any) -> BaseException | None:
    """Return what a future that is done has failed with; None if it did not, or was cancelled."""
    if isinstance(future, futures.Future) and future._exception is None:  # noqa: SLF001 - nearly always, and a lock less
        return None
    error: BaseException | None = None if future.cancelled() else future.exception()
    return error
