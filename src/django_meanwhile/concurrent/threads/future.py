"""One call and what becomes of it: a ``concurrent.futures.Future`` that can be stopped, and loses no exception.

::

    put ─▶ pending ─┬─ a thread of the pool takes it ─┬─▶ running ─▶ finished: a result, or an exception
                    ├─ run_here(): the caller does ───┘      └─ stop(): its query is interrupted
                    └─ cancel(), stop() ─▶ cancelled

Made by ``executor``, queued by ``pool``, run by ``thread``. Who takes a pending future off its
pool's queue, under the pool's lock, is the only one who may run it or tell that it was cancelled.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ... import logs
from ..naming import name_of
from . import deadlock, thread

if TYPE_CHECKING:
    from ..context import Surroundings
    from .pool import Pool

logger = logs.get_logger("concurrent")

T = TypeVar("T")


class _Waiter(threading.Event):
    """What the standard library's ``wait()`` would put into a future: set when that has ended, or by anybody else."""

    def add_result(self, _future: concurrent.futures.Future[Any]) -> None:
        """Called by the future."""
        self.set()

    add_exception = add_cancelled = add_result


class Future(concurrent.futures.Future[T]):
    """What ``submit()`` returns. Not durable: for work that must survive, use @task."""

    # Of the base class:
    _exception: BaseException | None = None
    _waiters: list[Any]
    _done_callbacks: list[Callable[[Future[T]], object]]
    # Ours, and in the class as most calls never change them:
    _name = ""  # of a call that has failed
    _is_told = False  # somebody was told how the call ended; set once, as the next one
    _was_stopped = False

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
        # Written by whoever took the future off the queue, and so by one thread at a time:
        self._call: tuple[Callable[..., T], tuple[Any, ...], Mapping[str, Any], Surroundings] | None
        self._call = (function, args, kwargs, surroundings)
        self.thread: thread.Thread | None = None  # that runs it

    @property
    def name(self) -> str:
        """The path of the function, for messages."""
        call = self._call
        return name_of(call[0]) if call is not None else self._name or "a call that has ended"

    @property
    def was_stopped(self) -> bool:
        """Whether ``stop()`` came while the call ran: what it raised may be the interruption's doing."""
        return self._was_stopped

    def on_end(self, function: Callable[[Future[T]], object]) -> None:
        """Do as ``add_done_callback()``, without its lock: for who has made this, before anybody else knows it."""
        self._done_callbacks.append(function)

    # --- for whoever waits --------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """See ``concurrent.futures.Future``. ``WouldDeadlock`` if the call can never end while this thread waits."""
        try:
            return cast("T", self._await(super().result, timeout))
        finally:
            self = None  # type: ignore[assignment]  # noqa: PLW0642 - or an exception would hold itself

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See ``concurrent.futures.Future``. ``WouldDeadlock`` if the call can never end while this thread waits."""
        return cast("BaseException | None", self._await(super().exception, timeout))

    def _await(self, get: Callable[[float | None], Any], timeout: float | None) -> Any:
        try:
            here = None if timeout is not None or self.done() else thread.current()
            if here is not None:
                self._wait_seen(here)
            return get(timeout)
        finally:
            self._is_told = self._is_told or self.done()
            del self, get

    def _wait_seen(self, here: thread.Thread) -> None:
        """Wait for the end in a thread of a pool, for which others may wait in turn."""
        waiter = _Waiter()
        with deadlock.waiting(here, self, wake=waiter.set):
            with self._condition:
                if self.done():
                    return
                self._waiters.append(waiter)
            waiter.wait()

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; return whether that is so. It then leaves the queue at once.

        Never waits for a lock of the pool: if another thread has it, that one takes it off the queue.
        """
        if not super().cancel():
            return False
        if self._pool is not None:
            self._pool.dismiss(self)
        return True

    def stop(self) -> None:
        """Cancel the call if it has not begun; if it runs, interrupt the query that its thread is in.

        Only while that thread runs this very call; its next query then raises ``CancelledError``. It does not wait
        for the end. A query that begins at this very moment may be missed: whoever waits for the end asks again.
        """
        if self.cancel() or self.done():
            return
        self._was_stopped = self._is_told = True
        runner = self.thread
        if runner is not None:
            runner.interrupt(self)

    def run_here(self) -> bool:
        """Run the call in the calling thread if it is still pending; return whether that is so.

        Never inside ``atomic()``: the call is not meant to be a part of that transaction.
        """
        return self._pool is not None and self._pool.run_here(self)

    # --- for whoever took it off the queue -----------------------------------------------

    def begin(self) -> Callable[[], T] | None:
        """Mark the call as running and return it, with its surroundings; None if it was cancelled."""
        call = self._call
        if not self.set_running_or_notify_cancel() or call is None:
            self._call = None
            return None
        function, args, kwargs, surroundings = call
        return partial(surroundings.run, function, *args, **kwargs)

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Tell how the call ended, and let go of the function and its arguments."""
        if error is None:
            self._call = self.thread = None
            self.set_result(result)
            return
        self._name = self.name
        self._call = self.thread = None
        self.set_exception(error)
        del self, error  # or the exception would hold itself, through this frame

    def drop(self) -> None:
        """Tell that the call was cancelled, and let go of it."""
        self._call = None
        self.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Tell that the call will never run."""
        if self.begin() is not None:
            self.end(error=error)

    def orphan(self, error: BaseException) -> None:
        """Fail in a forked child, where nobody runs the call. Its locks may be held by threads that are gone."""
        self._condition = threading.Condition()
        self._waiters = []  # they belong to the parent
        self._done_callbacks = []
        self._name, self._call, self._is_told = self.name, None, True
        if not self.done():
            self.set_exception(error)

    # --- for deadlock ---------------------------------------------------------------------

    def can_come(self, blocked: AbstractSet[thread.Thread]) -> bool:
        """See ``deadlock.Awaited``."""
        if self.done():  # also if it was cancelled, and is in the queue for a moment yet
            return True
        runner = self.thread
        if runner is not None:
            return runner not in blocked
        return self._pool is None or self._pool.could_run(self, blocked)

    def describe_wait(self) -> str:
        """See ``deadlock.Awaited``."""
        runner = self.thread
        if runner is not None:
            return f"{self.name}, which runs in {runner.describe()}, and which waits in turn"
        pool = self._pool.describe() if self._pool is not None else "no executor"
        return f"{self.name}, which is queued in {pool}, all of whose threads wait in turn"

    def runner(self) -> None:
        """See ``deadlock.Awaited``. Whoever waits can go on without the call."""

    def __del__(self) -> None:
        if self._is_told or self._exception is None:
            return
        logger.error(
            "%s failed in another thread, and nobody asked for its result", self._name, exc_info=self._exception
        )
