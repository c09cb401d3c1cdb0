"""One call and what becomes of it: a ``concurrent.futures.Future`` that can be stopped, and loses no exception.

::

    start ─▶ pending ─┬─ a thread of the pool takes it ─┬─▶ running ─▶ finished: a result, or an exception
                      ├─ run_here(): the caller does ───┘      └─ stop(): its query is interrupted
                      └─ cancel(), stop() ─▶ cancelled

Made by ``executor``, run by ``thread``. Who takes a pending future off its pool's queue, under
the pool's lock, is the only one who may run it or tell that it was cancelled.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .. import logs
from .naming import name_of

if TYPE_CHECKING:
    from .context import Surroundings
    from .pool import Pool
    from .thread import Thread

logger = logs.get_logger("concurrent")

T = TypeVar("T")


class Future(concurrent.futures.Future[T]):
    """What ``submit()`` returns. Not durable: for work that must survive, use @task."""

    def __init__(
        self,
        pool: Pool | None,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        surroundings: Surroundings,
    ) -> None:
        super().__init__()
        self._pool = pool
        self._call: tuple[Callable[..., T], tuple[Any, ...], Mapping[str, Any], Surroundings] | None
        self._call = (function, args, kwargs, surroundings)
        self._name = ""  # of the function, once the call has failed
        self.thread: Thread | None = None  # that runs it; written by that thread only
        self._asked = False  # somebody has seen, or was told, how it ended
        self._was_stopped = False

    @property
    def name(self) -> str:
        """The path of the function, for messages."""
        call = self._call
        return name_of(call[0]) if call else self._name or "a call that has ended"

    @property
    def was_stopped(self) -> bool:
        """Whether ``stop()`` came before the end: an exception may then be the interruption's."""
        return self._was_stopped

    # --- for whoever waits --------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """See ``concurrent.futures.Future``."""
        try:
            return super().result(timeout)
        finally:
            if self.done():
                self._asked = True
            self = None  # type: ignore[assignment]  # noqa: PLW0642 - or the exception would hold itself

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See ``concurrent.futures.Future``."""
        error = super().exception(timeout)
        self._asked = True
        return error

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; whether that is so. It then leaves the queue at once."""
        if not super().cancel():
            return False
        if self._pool is not None and self._pool.withdraw(self):
            self._call = None
            self.set_running_or_notify_cancel()  # tells wait() and as_completed()
        return True

    def stop(self) -> None:
        """Cancel the call if it has not begun; if it runs, interrupt the query that its thread is in.

        Only while that thread runs this very call. Does not wait for its end. What runs no query
        goes on until its next one, which raises ``CancelledError``.
        """
        if self.cancel() or self.done():
            return
        self._was_stopped = self._asked = True
        thread = self.thread
        if thread is not None:
            thread.interrupt(self)

    def run_here(self) -> bool:
        """Run the call in the calling thread if it is still pending; whether that is so.

        Not while this thread has a transaction open: the call is not meant to be a part of it.
        """
        return self._pool is not None and self._pool.run_here(self)

    # --- for whoever runs it ------------------------------------------------------------

    def begin(self) -> Callable[[], T] | None:
        """Mark the call as running and hand it over, in its surroundings; None if it was cancelled."""
        call, began = self._call, self.set_running_or_notify_cancel()
        if not began or call is None:
            self._call = None
            return None
        function, args, kwargs, surroundings = call
        return lambda: surroundings.run(function, *args, **kwargs)

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Tell how the call ended, and let go of the function and its arguments."""
        if error is None:
            self._call = None
            self.set_result(result)
            return
        self._name = self.name
        self._call = None
        self.set_exception(error)

    def __del__(self) -> None:
        if getattr(self, "_asked", True) or self._exception is None:
            return
        logger.error(
            "%s failed in another thread, and nobody asked for the result", self._name, exc_info=self._exception
        )
