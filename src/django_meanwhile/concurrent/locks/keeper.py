"""One thread for each process that renews the leases of its locks, every third of a lease.

Used by ``hold``, for locks that have a lease. It runs while there are some. It decides
nothing: whether a lock was lost is asked of the database by who needs to know.
"""

from __future__ import annotations

import os
import threading

from django.db import Error

from ...conf import real_clock
from ...connections import close_thread_connections
from ...logs import get_logger
from ...store.locks import Grip
from ...store.locks_sqlite import Rows
from ..threads.daemons import daemon

logger = get_logger("concurrent")

AGAIN = 0.1
"""Seconds until the next try, where others write: this holder is to be the next writer."""


class Keeper:
    """See the module. It starts and ends by itself. ``_changed`` guards all fields but those of the thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: dict[Grip, int] = {}  # with its fence
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        with self._changed:
            return self._thread is not None

    def keep(self, grip: Grip) -> None:
        """Renew this one from now on, if it has a lease."""
        if not grip.lease:
            return
        with self._changed:
            if self._thread is None:
                thread = daemon(self._run, name="meanwhile-lock-keeper")
                thread.start()  # may fail: then nothing is kept
                self._thread = thread
            self._kept[grip] = grip.fence
            self._changed.notify()

    def let_go(self, grip: Grip) -> None:
        """Renew it no more."""
        with self._changed:
            if self._kept.pop(grip, None) is not None and not self._kept:
                self._changed.notify()

    def _run(self) -> None:
        rows: dict[str, Rows] = {}
        clock = real_clock()
        pause: float | None = None
        try:
            while True:
                with self._changed:
                    due = clock.monotonic() + (self._pause() if pause is None else pause)
                    while self._kept and (left := due - clock.monotonic()) > 0:
                        self._changed.wait(left)
                        due = min(due, clock.monotonic() + self._pause())  # of a new one with a shorter lease
                    if not self._kept:
                        self._thread = None  # under the lock: whoever comes next starts another
                        return
                    kept = dict(self._kept)
                pause = None if self._renew(rows, kept) else AGAIN
        finally:
            with self._changed:
                if self._thread is threading.current_thread():  # it ends by an error: whoever comes starts another
                    self._thread = None
            for each in rows.values():
                each.close()
            close_thread_connections()

    def _pause(self) -> float:
        return min((grip.lease for grip in self._kept), default=0.0) / 3

    def _renew(self, rows: dict[str, Rows], kept: dict[Grip, int]) -> bool:
        """Renew all; return whether all were asked for."""
        complete = True
        for alias, lease in {(grip.alias, grip.lease) for grip in kept}:
            held = {
                (grip.name, fence): grip
                for grip, fence in kept.items()
                if (grip.alias, grip.lease) == (alias, lease)
            }  # fmt: skip
            try:
                renewed = rows.setdefault(alias, Rows(alias)).renew(held, lease)
            except Error as error:
                logger.warning("database %r: locks could not be renewed: %s", alias, error)
                rows.pop(alias).close()
                continue
            if renewed is None:
                complete = False
                continue
            for name, fence in held.keys() - renewed:
                self._lose(held[name, fence], fence)
        return complete

    def _lose(self, grip: Grip, fence: int) -> None:
        """Stop renewing what is somebody else's, and say so once; not if it was given back meanwhile."""
        with self._changed:
            if self._kept.get(grip) != fence:
                return
            del self._kept[grip]
        logger.warning("lock %r was lost while it was held: its lease ran out, and somebody else took it", grip.name)


keeper = Keeper()


# --- fork -----------------------------------------------------------------------------------


def _forget() -> None:
    """In the child there is no such thread, and nothing is held."""
    keeper.__init__()  # type: ignore[misc] # the one object, which others have imported


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
