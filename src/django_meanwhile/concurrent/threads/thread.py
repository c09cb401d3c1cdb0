"""One thread of a pool: takes calls, runs each in its surroundings, leaves its connections clean.

Made by ``pool``. It runs more than one call at a time only if a call waits for others and
runs them in between (``Future.run_here``).
"""

from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ... import logs
from . import budget
from .connecting import Connections
from .daemons import daemon
from .held import Lock

if TYPE_CHECKING:
    from .future import Future
    from .pool import Errand, Pool

logger = logs.get_logger("concurrent")

_here = threading.local()


def current() -> Thread | None:
    """Return the calling thread if it is one of a pool's."""
    return getattr(_here, "thread", None)


class Thread:
    """A thread of ``pool``, and a holder of connections (``budget.Holder``).

    ``_lock`` guards ``is_stopped`` and what is taken off ``_running``; it is held while a query is interrupted or a
    connection is closed: so an interruption reaches the call that it is meant for, and neither the next one nor
    another thread's.
    """

    def __init__(self, pool: Pool, name: str, first: Future[Any]) -> None:
        self.pool = pool
        # What it is to do, or does. While the thread is idle the pool's lock guards it, else it is the thread's own.
        self.handed: Future[Any] | Errand | None = first
        self.wake = threading.Lock()
        self.wake.acquire()
        self._lock = Lock()
        self._running: list[Future[Any]] = []  # the innermost one last
        self.is_stopped = False
        self._connections = Connections(self, self._lock)
        # An empty context: from Python 3.14 on, a thread may begin with a copy of its maker's, and would keep that.
        self.python = daemon(contextvars.Context().run, self._live, name=name)

    # --- life ---------------------------------------------------------------------------

    def _live(self) -> None:
        _here.thread = self
        try:
            future = cast("Future[Any] | None", self.handed)
            if future is None or not self._initialize(future):
                return
            while future is not None:
                self.run(future)
                future = self.handed = None
                future = self.pool.next(self)
        finally:
            self.handed = None
            try:
                self._connections.close()
            finally:
                self.pool.gone(self)

    def _initialize(self, first: Future[Any]) -> bool:
        if self.pool.initializer is None:
            return True
        try:
            self._connections.before()
            self.pool.initializer(*self.pool.initargs)
            self._connections.after(first, (), is_last=True)
        except BaseException:
            logger.critical("%s: the initializer failed, so the pool is broken", self.pool.name, exc_info=True)
            self.pool.break_down(first)
            return False
        return True

    def is_wanted_back(self) -> bool:
        """Whether somebody waits for a connection that this thread keeps."""
        return self._connections.is_wanted()

    def close_connections(self) -> None:
        """Close them all; the next call that needs one opens another."""
        self._connections.close()

    # --- calls --------------------------------------------------------------------------

    def run(self, future: Future[Any]) -> None:
        """Run a call, or skip it if it was cancelled. Connections are clean again before anybody hears of its end."""
        call = future.begin()
        if call is None:
            return
        is_outermost = not self._running
        self._running.append(future)  # without the lock: an interruption that does not see it yet came before the call
        future.thread = self
        try:
            try:
                if is_outermost:
                    self._connections.before()
                result = call()
            finally:
                self._after(future, is_outermost)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.end(error=error)
            del future, call  # or the exception would hold itself, through this frame
        else:
            future.end(result)

    def _after(self, future: Future[Any], is_outermost: bool) -> None:  # noqa: FBT001
        with self._lock:  # from here on, nothing can interrupt on behalf of this call
            self._running.remove(future)
            self.is_stopped = not is_outermost and any(outer.was_stopped for outer in self._running)
            hit = self._connections.take_hit()
        self._connections.after(future, hit, is_last=is_outermost)

    def interrupt(self, future: Future[Any]) -> None:
        """Interrupt the query that this thread is in, if it still runs ``future``.

        Never waits for a lock: if another thread has it, that one interrupts when letting go.
        """
        self._lock.do(partial(self._interrupt, future))

    def _interrupt(self, future: Future[Any]) -> None:
        if future in self._running:
            self.is_stopped = True
            budget.interrupt(self)
            self._connections.interrupt()

    def is_in_transaction(self) -> bool:
        """Whether a call in between would run inside ``atomic()``. For this thread only."""
        return self._connections.is_in_transaction()

    # --- budget.Holder --------------------------------------------------------------------

    def describe(self) -> str:
        """Say which thread this is and what it runs; a snapshot, for messages."""
        running = list(self._running)
        return f"thread {self.python.name!r} ({running[-1].name if running else 'idle'})"

    def give_back(self, alias: str) -> bool:  # noqa: ARG002 - it closes all it has
        """Close what an idle thread keeps; return whether it is idle."""
        return self.pool.give_back(self)

    # --- fork -----------------------------------------------------------------------------

    def running(self) -> list[Future[Any]]:
        """Return the calls that go on; a snapshot."""
        return list(self._running)

    def after_fork_in_child(self) -> None:
        """Go on alone: this is the thread that has forked."""
        self._lock = Lock()
        self._connections.after_fork_in_child(self._lock)


def run_plainly(future: Future[Any]) -> None:
    """Run a call in the calling thread, which is none of a pool's, and on its connections as they are."""
    call = future.begin()
    if call is None:
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.end(error=error)
        del future, call  # or the exception would hold itself, through this frame
    else:
        future.end(result)
