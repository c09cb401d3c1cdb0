"""Threads that are lent: to one coroutine for its life, or to calls for which the shared pool's may not be waited for.

Under asgiref all ORM calls of a request's coroutines share one thread, one after another, whatever ``asyncio.gather()``
looks like. A coroutine that has a thread lent runs them beside those of others. Called by ``calls`` and
``async_gathering``::

    coroutine ─▶ await Model.objects.aget() ─▶ asgiref ─▶ CoroutineThread.submit ─▶ queue ─▶ a thread, lent by our pool
                                                                                             from the first call on

A lent thread counts in the budget of connections like any thread of ours, and its connection is clean and stays open
for the next coroutine. It never blocks the loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent import futures
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections

from ..context import capture
from .daemons import daemon
from .executor import ThreadPoolExecutor, default_executor
from .future import Future
from .thread import current

if TYPE_CHECKING:
    from .thread import Thread

P = ParamSpec("P")
T = TypeVar("T")

_MAX_THREADS = 10_000
_AGAIN = 0.2  # seconds until a query is interrupted once more
_LOOK = 0.1  # seconds after which a lent thread that has nothing to do looks whether others wait for its connection
_lock = threading.Lock()
_lenders: ThreadPoolExecutor | None = None  # guarded by _lock


def lenders() -> ThreadPoolExecutor:
    """Return the pool that lends its threads. As many as wanted: the budget bounds their connections.

    A bound here could make those who wait for each other wait for ever.
    """
    global _lenders  # noqa: PLW0603 - one for each process
    with _lock:
        if _lenders is None:
            _lenders = ThreadPoolExecutor(_MAX_THREADS, "meanwhile-coroutine", outside_transaction=True)
        return _lenders


def executor_for_here() -> ThreadPoolExecutor:
    """Return where the calling thread may send calls that it then waits for.

    The shared pool; one of its own threads runs them itself if need be. But not inside ``atomic()``, of which they
    must not be a part: then nobody might be left to run them.
    """
    here = current()
    return lenders() if here is not None and here.is_in_transaction() else default_executor()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _AsItIs:
    """Surroundings of a call for which asgiref has restored them."""

    @staticmethod
    def run(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return function(*args, **kwargs)


class _Item(futures.Future[Any]):
    """One sync call of the coroutine."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._call: Future[Any] = Future(None, function, (), {}, cast("Any", _AsItIs))

    def cancel(self) -> bool:
        """Cancel it; if it runs, interrupt its query. asgiref calls this when the coroutine is cancelled."""
        if super().cancel():
            return True
        if not self.done():  # in a thread of its own: that asks the server, and this is the loop
            daemon(self._interrupt, name="meanwhile-interrupt").start()
        return False

    def _interrupt(self) -> None:
        """Interrupt its query, again and again: one that began at that very moment was missed."""
        while not self._call.done():
            self._call.stop()
            futures.wait([self._call], _AGAIN)

    def run(self, thread: Thread) -> None:
        """Run it in the calling thread, which is that one, as a call of its own within the lent one."""
        if not self.set_running_or_notify_cancel():
            return
        thread.run(self._call)
        error = self._call.exception()
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(self._call.result())
        del self, error  # or the exception would hold itself


class CoroutineThread(futures.Executor):
    """Runs one call at a time, all in one thread, which it borrows on the first. Used on one event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Under the lock:
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._serving: Any = None  # the future of the lent thread
        self._is_closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Queue a call."""
        item = _Item(partial(fn, *args, **kwargs))
        with self._lock:
            if self._is_closed:
                raise RuntimeError(
                    "The coroutine of aparallel() that this call belongs to has ended, or the process ends."
                )
            self._queue.put(item)
            is_first = self._serving is None
            if is_first:
                self._serving = lenders().start(self._serve, (), {}, surroundings=capture())
        if is_first:  # without the lock: it may have failed by now, and then the callback runs here
            self._serving.add_done_callback(lambda _: self._fail_the_rest())
        return item

    async def aclose(self) -> None:
        """Give the thread back, once its call has ended, and wait for that, cancelled or not."""
        with self._lock:
            self._is_closed = True
            serving = self._serving
            self._queue.put(None)
        if serving is not None:
            await until_ended(serving)

    def _serve(self) -> None:
        """Run what is queued. In the lent thread."""
        thread = current()
        if thread is None:
            raise RuntimeError("a lent thread is one of a pool's")
        keeps = _cursors()
        while (item := self._next(thread, keeps)) is not None:
            item.run(thread)
            del item

    def _next(self, thread: Thread, keeps: int) -> _Item | None:
        """Wait for the next call. Meanwhile give back a connection that others wait for, unless a cursor is open."""
        while True:
            try:
                return self._queue.get(timeout=_LOOK)
            except Empty:
                if thread.pool.is_closed():  # the process ends; a loop that was left standing never calls aclose()
                    return None
                if thread.is_wanted_back() and _cursors() == keeps:
                    thread.close_connections()

    def _fail_the_rest(self) -> None:
        """Fail what came too late, or what no thread could be lent for."""
        with self._lock:
            self._is_closed = True
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None and item.set_running_or_notify_cancel():
                item.set_exception(
                    RuntimeError(
                        "The coroutine of aparallel() that this call belongs to has ended, or the process ends."
                    )
                )


async def until_ended(future: futures.Future[Any]) -> None:
    """Await the end of a call, however often this task is cancelled meanwhile."""
    ended = asyncio.ensure_future(asyncio.wrap_future(future))
    ended.add_done_callback(lambda each: each.cancelled() or each.exception())  # it is for others to ask for
    is_cancelled = False
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


def _cursors() -> int:
    """Count the server-side cursors that this thread has ever opened: closing the connection ends them.

    Of other databases than PostgreSQL nothing is known, so that an open connection counts as one.
    """
    return sum(
        getattr(connection, "_named_cursor_idx", 0)
        if connection.vendor == "postgresql"
        else connection.connection is not None
        for connection in connections.all(initialized_only=True)
    )


async def in_a_thread_of_its_own(function: Callable[[], Awaitable[T]]) -> T:
    """Await what ``function`` returns; its ORM calls, and those of tasks that it creates, run in one thread of ours.

    To be the whole of a task: what it sets is the task's context.
    """
    thread, context = CoroutineThread(), ThreadSensitiveContext()
    SyncToAsync.context_to_thread_executor[context] = thread
    SyncToAsync.thread_sensitive_context.set(context)
    AsyncToSync.executors.current = None  # of a sync caller further up, which asgiref would prefer
    try:
        return await function()
    finally:
        try:
            await thread.aclose()
        finally:
            SyncToAsync.context_to_thread_executor.pop(context, None)
