"""One thread of a pool: takes calls, runs each in its surroundings, leaves its connections clean.

Made by ``pool``. What it shares with other threads is ``_lock``'s: which calls it runs (more
than one if a call waits for another and runs it in between), so that an interruption reaches
the call that it is meant for, and never the next one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .. import logs
from ..connections import close_thread_connections, tidy_thread_connections

if TYPE_CHECKING:
    from .future import Future
    from .pool import Pool

logger = logs.get_logger("concurrent")

_here = threading.local()


def current() -> Thread | None:
    """Return the calling thread if it is one of a pool's."""
    return getattr(_here, "thread", None)


class Thread:
    """A thread of ``pool``, a daemon: ``executor`` waits for it at the end of the process."""

    def __init__(self, pool: Pool, name: str, first: Future[Any]) -> None:
        self.pool = pool
        self.handed: Future[Any] | None = first  # guarded by the pool's lock
        self.wake = threading.Lock()  # released by whoever hands something over
        self.wake.acquire()
        self._lock = threading.Lock()
        self._running: list[Future[Any]] = []  # guarded by _lock
        self.python = threading.Thread(target=self._live, name=name, daemon=True)

    def _live(self) -> None:
        _here.thread = self
        try:
            if not self._initialize():
                return
            future, self.handed = self.handed, None
            while future is not None:
                self.run(future)
                del future
                future = self.pool.next(self)
        finally:
            close_thread_connections()

    def _initialize(self) -> bool:
        if self.pool.initializer is None:
            return True
        try:
            self.pool.initializer(*self.pool.initargs)
        except BaseException:
            logger.critical(
                "the initializer of %s failed: the pool is broken, and its calls fail", self.pool.name, exc_info=True
            )
            self.pool.break_down(self)
            return False
        tidy_thread_connections()
        return True

    def run(self, future: Future[Any]) -> None:
        """Run a call, or skip it if it was cancelled. Connections are clean again before anybody hears of its end."""
        call = future.begin()
        if call is None:
            return
        with self._lock:
            self._running.append(future)
        future.thread = self
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            self._after(future)
            future.end(error=error)
            del future  # or the exception would hold itself, through this frame
        else:
            self._after(future)
            future.end(result)

    def _after(self, future: Future[Any]) -> None:
        with self._lock:
            self._running.remove(future)
        tidy_thread_connections()

    def interrupt(self, future: Future[Any]) -> None:
        """Interrupt the query that this thread is in, if it still runs ``future``."""


def run_plainly(future: Future[Any]) -> None:
    """Run a call in the calling thread and on its connections, as they are."""
    call = future.begin()
    if call is None:
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.end(error=error)
        del future
    else:
        future.end(result)
