"""The process's share of each database: our threads hold at most so many connections at once.

::

    acquire ─┬─ share free, nobody waits ─▶ held ─▶ release ─▶ the first who waits
             └─ wait, first come first served ─┬─▶ held
                ask an idle holder for its own  ├─▶ ConnectionTimeout, which names the holders
                                                └─▶ CancelledError, if the waiting call is stopped

``MEANWHILE["CONCURRENT"]["connections"]`` counts what the threads of all our executors hold
(``connecting`` asks for each), and what others here ask for with ``hold()``. The connections of
the server's own threads are not ours, and not counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from ...conf import get_settings
from ...core.errors import ConnectionTimeout
from .held import Lock


class Holder(Protocol):
    """Who may hold a connection: at most one for each alias."""

    #: Set before ``interrupt()`` is called; the holder then waits no longer.
    is_stopped: bool

    def describe(self) -> str:
        """Return who it is and what it does, for messages."""

    def give_back(self, alias: str) -> bool:
        """Close an unused connection soon; return whether there is one. Called without the lock."""


class _Waiter:
    __slots__ = ("holder", "is_granted", "wake")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.is_granted = False
        self.wake = threading.Lock()
        self.wake.acquire()


class _Share:
    __slots__ = ("holders", "waiting")

    def __init__(self) -> None:
        self.holders: dict[Holder, None] = {}
        self.waiting: deque[_Waiter] = deque()


_lock = Lock()
_shares: dict[str, _Share] = {}  # guarded by _lock, and so is all in them


def acquire(alias: str, holder: Holder, *, wait: bool = True) -> None:
    """Wait until ``holder`` may open a connection. It then has to call ``release()``.

    Raises ``ConnectionTimeout``; and ``CancelledError`` once ``interrupt(holder)`` was called. Without ``wait``, the
    place is taken even if none is free: the others then wait until the number is below the share again.
    """
    settings = get_settings().concurrent
    waiter = _Waiter(holder)
    try:
        others = _take_or_join(alias, waiter, settings.connections, wait=wait)
        if others is None:
            return
        # Whoever goes idle looks for waiters once it can be found idle here: between the two, none is missed.
        for other in others:
            if other.give_back(alias):
                break
        waiter.wake.acquire(timeout=settings.connection_timeout)
    except BaseException:  # a signal's handler has raised in the main thread, say
        _withdraw(alias, waiter)
        raise
    with _lock:
        if waiter.is_granted:
            return
        share = _shares[alias]
        if waiter not in share.waiting:  # interrupted
            raise CancelledError
        share.waiting.remove(waiter)
        raise _timed_out(alias, holder, settings.connections, list(share.holders))


def _take_or_join(alias: str, waiter: _Waiter, limit: int, *, wait: bool) -> list[Holder] | None:
    """Take a place, and return None; or stand in line, and return who holds one."""
    holder = waiter.holder
    with _lock:
        share = _shares.setdefault(alias, _Share())
        if holder in share.holders:
            return None
        if not wait or (not share.waiting and len(share.holders) < limit):
            share.holders[holder] = None
            return None
        if holder.is_stopped:
            raise CancelledError
        share.waiting.append(waiter)
        return list(share.holders)


def _withdraw(alias: str, waiter: _Waiter) -> None:
    """Let the others have what ``waiter`` waited for, or has got by now."""
    with _lock:
        share = _shares.get(alias)
        if share is not None and waiter in share.waiting:
            share.waiting.remove(waiter)
            return
    if waiter.is_granted:
        release(alias, waiter.holder)


def release(alias: str, holder: Holder) -> None:
    """Give the place to the first who waits. Does nothing if ``holder`` has none."""
    limit = get_settings().concurrent.connections
    with _lock:
        share = _shares.get(alias)
        if share is None or holder not in share.holders:
            return
        del share.holders[holder]
        while share.waiting and len(share.holders) < limit:
            waiter = share.waiting.popleft()
            share.holders[waiter.holder] = None
            waiter.is_granted = True
            waiter.wake.release()


def interrupt(holder: Holder) -> None:
    """Let ``holder`` wait no longer. Never waits itself."""
    _lock.do(partial(_interrupt, holder))


def _interrupt(holder: Holder) -> None:
    for share in _shares.values():
        for waiter in [waiter for waiter in share.waiting if waiter.holder is holder]:
            share.waiting.remove(waiter)
            waiter.wake.release()


def is_wanted(alias: str) -> bool:
    """Whether somebody waits for a connection to ``alias``."""
    with _lock:
        share = _shares.get(alias)
        return share is not None and bool(share.waiting)


def holders(alias: str) -> list[str]:
    """Describe who holds connections to ``alias`` now."""
    with _lock:
        share = _shares.get(alias)
        found = list(share.holders) if share is not None else []
    return [holder.describe() for holder in found]


class _Named:
    """A holder that is no thread of a pool."""

    is_stopped = False

    def __init__(self, what: str) -> None:
        self._what = f"{what} in thread {threading.current_thread().name!r}"

    def describe(self) -> str:
        return self._what

    def give_back(self, alias: str) -> bool:  # noqa: ARG002
        return False


@contextmanager
def hold(alias: str, what: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a place in the share of ``alias`` in the block, for ``what`` ("Lock('x')"), as the messages say.

    For connections that no thread of a pool opens. Waits, and raises ``ConnectionTimeout``; without ``wait``, see
    ``acquire``. It may be left by another thread than entered it.
    """
    holder = _Named(what)
    acquire(alias, holder, wait=wait)
    try:
        yield
    finally:
        release(alias, holder)


def _timed_out(alias: str, holder: Holder, share: int, others: list[Holder]) -> ConnectionTimeout:
    seconds = get_settings().concurrent.connection_timeout
    named = "; ".join(sorted(other.describe() for other in others))
    return ConnectionTimeout(
        f"{holder.describe()}: no connection to database {alias!r} within {seconds:g} s. This process may hold {share} "
        f'at once (MEANWHILE["CONCURRENT"]["connections"]), and these hold them: {named}. Raise that number if the '
        'database allows more; raise "connection_timeout" if waiting longer is no harm; or let calls end before '
        "others begin: a call that waits for another keeps its own connection."
    )


# --- fork -----------------------------------------------------------------------------------


def before_fork() -> None:
    """Take the lock, so that the child gets consistent data. Called by ``lifetime``."""
    _lock.acquire()


def after_fork_in_parent() -> None:
    """Go on."""
    _lock.release()


def after_fork_in_child() -> None:
    """Forget what the threads of the parent hold."""
    global _lock  # noqa: PLW0603
    _lock = Lock()
    _shares.clear()
