"""The background coroutines of an event loop: held while they run, drained when the loop ends.

::

    create_task ─▶ Residents of the running loop ─▶ BackgroundTask, an asyncio.Task
                        └─ the loop ends ─▶ drain ─▶ cut off

A loop ends when somebody cancels its tasks while it stands still, as ``asyncio.run()`` does, and with it most servers;
or when the interpreter ends and left the loop standing. Called by ``background``, by the tools for tests, and by our
own server, which says when it will kill. It starts no thread, and no loop that it was not asked for.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.core.cache import caches

from ... import logs
from ...conf import get_settings, real_clock
from ..threads.executor import ThreadPoolExecutor

logger = logs.get_logger("concurrent")


class BackgroundTask(asyncio.Task[Any]):
    """A background coroutine. Cancelled while its loop stands still, it is given the time to drain instead."""

    def cancel(self, msg: Any | None = None) -> bool:
        """See ``asyncio.Task.cancel``."""
        loop = self.get_loop()
        if self.done() or loop.is_running():
            return super().cancel(msg)
        residents_of(loop).begin_to_end(loop)
        return True

    def cut_off(self) -> None:
        """Cancel it for good."""
        super().cancel("its event loop ends")


class Descendant(BackgroundTask):
    """A task that a background coroutine has made, as by ``asyncio.gather()``: its end would be the end of both."""

    def cancel(self, msg: Any | None = None) -> bool:
        """See ``BackgroundTask.cancel``. From then on it is drained like any other."""
        loop = self.get_loop()
        if not (self.done() or loop.is_running()):
            tasks = residents_of(loop).tasks
            tasks.add(self)
            self.add_done_callback(tasks.discard)
        return super().cancel(msg)

    def get_name(self) -> str:
        """Name its coroutine, which says more than a number."""
        return str(getattr(self.get_coro(), "__qualname__", super().get_name()))


class Residents:
    """All of one loop. Touched in the loop's own thread only."""

    def __init__(self) -> None:
        self.tasks: set[BackgroundTask] = set()
        self.is_ending = False
        #: Under test only: what was raised, for whoever waits; it keeps whole frames alive.
        self.failed: list[tuple[str, Exception]] = []

    def admit(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        context: contextvars.Context,
        loop: asyncio.AbstractEventLoop,
    ) -> BackgroundTask:
        """Start a coroutine, and hold it until it is done."""
        task = BackgroundTask(coroutine, loop=loop, name=name, context=context)
        self.tasks.add(task)
        task.add_done_callback(self._leave)
        return task

    def begin_to_end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give those that are left ``MEANWHILE["CONCURRENT"]["drain"]`` seconds, or what is left. Idempotent."""
        if not self.is_ending:
            self.is_ending = True
            seconds = get_settings().concurrent.drain
            if _cut_off_at is not None:
                seconds = min(seconds, max(0.0, round(_cut_off_at - real_clock().monotonic(), 1)))
            loop.call_later(seconds, self._cut_off, seconds)

    async def end(self) -> None:
        """Drain, and return when none is left."""
        self.begin_to_end(asyncio.get_running_loop())
        while self.tasks:
            await asyncio.wait(self.tasks)

    def _cut_off(self, seconds: float) -> None:
        left = sorted(self.tasks, key=BackgroundTask.get_name)
        if left:
            names = ", ".join(task.get_name() for task in left)
            logger.warning(
                "background coroutines cancelled, as the server ends: %s; not done within %g s", names, seconds
            )
        for task in left:
            task.cut_off()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told already: asyncio need not complain that nobody asked


_all: WeakKeyDictionary[asyncio.AbstractEventLoop, Residents] = WeakKeyDictionary()


def residents_of(loop: asyncio.AbstractEventLoop) -> Residents:
    """Return those of a loop, which may be none."""
    found = _all.get(loop)
    if found is None:
        _drain_at_exit()
        _survive_uvicorns_signal()
        found = _all[loop] = Residents()
        _tell_descendants(loop)
    return found


def _tell_descendants(loop: asyncio.AbstractEventLoop) -> None:
    """Have tasks that background coroutines make be ``Descendant``s; others are made as before."""
    before = loop.get_task_factory()

    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        if isinstance(asyncio.current_task(loop), BackgroundTask):
            return Descendant(coroutine, loop=loop, **options)
        if before is not None:
            return before(loop, coroutine, **options)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(make)


# --- the end of a server ----------------------------------------------------------------------

_cut_off_at: float | None = None
"""When those that are left are cancelled at the latest, by the monotonic clock: a killed process names nobody."""


def cut_off_within(seconds: float) -> None:
    """Say that this process ends, and is killed soon after ``seconds``. Called by our own server, at its signal."""
    global _cut_off_at  # noqa: PLW0603 - one end for each process
    _cut_off_at = real_clock().monotonic() + seconds


_registered = False


def _drain_at_exit() -> None:
    """Have the loops drained that a server leaves standing, as Granian and Daphne do.

    Before the pools of threads are closed: hence not ``atexit``, which is later, and which a process of
    ``multiprocessing`` does not come to. The last one registered is the first one called.
    """
    global _registered  # noqa: PLW0603 - once for each process
    if not _registered:
        _registered = True
        getattr(threading, "_register_atexit", atexit.register)(_drain_all)


def _drain_all() -> None:
    for loop, residents in list(_all.items()):
        if residents.tasks and not (loop.is_running() or loop.is_closed()):
            loop.run_until_complete(residents.end())


def _survive_uvicorns_signal() -> None:
    """Let the loop of uvicorn come to its end after SIGTERM.

    Once it has shut down, uvicorn restores the default action and raises the signal once more, in its main thread and
    before its loop has ended: the process is gone. Blocked in that thread, the signal stays pending, and the process
    ends as after any other return. Sent a second time from outside, it ends the process at once, as ever.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        return
    uvicorns: Any = signal.getsignal(signal.SIGTERM)
    if type(getattr(uvicorns, "__self__", None)).__module__ != "uvicorn.server":
        return

    def hold_back(number: int, frame: FrameType | None) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        uvicorns(number, frame)

    signal.signal(signal.SIGTERM, hold_back)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all.clear)  # they run in the parent


# --- surroundings -----------------------------------------------------------------------------


def is_private(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``async_to_sync()`` made this loop for one call. It keeps a list of them."""
    return loop in AsyncToSync.loop_thread_executors


def surroundings(loop: asyncio.AbstractEventLoop) -> contextvars.Context:
    """Return the caller's context variables without what asgiref keeps of the request in them.

    A coroutine that kept it would run its ORM calls in the thread of a request that is over. Ours share one thread; on
    a private loop, which a test has, they run where the test's own do.
    """
    context = contextvars.Context()
    for variable, value in contextvars.copy_context().items():
        if variable not in _OF_A_REQUEST:
            # Up to asgiref 3.8 all copies of a context share the dictionary of a Local.
            context.run(variable.set, dict(value) if type(value) is dict else value)
    if is_private(loop):
        context.run(setattr, AsyncToSync.executors, "current", AsyncToSync.loop_thread_executors[loop])
    else:
        context.run(SyncToAsync.thread_sensitive_context.set, _shared_thread())
    return context


def _set_by(setter: Callable[..., object], *args: object) -> contextvars.ContextVar[Any]:
    """Return the variable that ``setter`` sets: asgiref's have no names of their own."""
    context = contextvars.Context()
    context.run(setter, *args)
    return next(iter(context))


_OF_A_REQUEST = {
    SyncToAsync.thread_sensitive_context,
    SyncToAsync.deadlock_context,
    _set_by(setattr, AsyncToSync.executors, "current", None),
    _set_by(caches.__setitem__, "meanwhile", None),  # closed with the request
}


_thread: ThreadSensitiveContext | None = None


def _shared_thread() -> ThreadSensitiveContext:
    """Return what leads asgiref to the one thread, and so the one connection, that all of them share."""
    global _thread  # noqa: PLW0603 - one for each process
    if _thread is None:
        _thread = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[_thread] = ThreadPoolExecutor(
            1, "meanwhile-background", max_queued=_NEVER_FULL, outside_transaction=True
        )
    return _thread


_NEVER_FULL = 1_000_000
"""Calls that may wait for the thread: a queue that made the caller wait would hold up the loop."""
