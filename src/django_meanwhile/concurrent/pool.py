"""A bounded queue and the threads that empty it. Made by ``executor``; the threads are ``thread``'s.

::

    put ─┬─ an idle thread: handed to it          idle: a stack, so that those at its bottom
         ├─ room for another thread: its first    grow cold and end after ``idle`` seconds
         ├─ room in the queue: waits there
         └─ full: wait for room, or QueueFull

It belongs to its threads, not to its executor: an executor that nobody refers to is
collected, and its pool ends once its queue is empty.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..core.errors import QueueFull
from .future import Future
from .thread import Thread, current, run_plainly


class BrokenThreadPool(concurrent.futures.BrokenExecutor):
    """The pool runs nothing any more: an initializer failed, or the process was forked."""


class Pool:
    """``_lock`` guards everything that changes."""

    def __init__(
        self,
        name: str,
        max_workers: int,
        *,
        max_queued: int,
        when_full: str,
        idle: float,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self.name, self.max_workers, self.max_queued, self.when_full = name, max_workers, max_queued, when_full
        self.idle, self.initializer, self.initargs = idle, initializer, initargs
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._queue: OrderedDict[Future[Any], None] = OrderedDict()
        self.threads: set[Thread] = set()
        self._idle: list[Thread] = []
        self._made = 0
        self._closed = ""  # why nothing is taken any more
        self._broken = ""

    def put(self, future: Future[Any]) -> None:
        """Have a thread run the call. ``QueueFull``, ``BrokenThreadPool`` or ``RuntimeError`` if none will."""
        with self._lock:
            while True:
                if self._broken:
                    raise BrokenThreadPool(self._broken)
                if self._closed:
                    raise RuntimeError(self._closed)
                if self._idle:
                    thread = self._idle.pop()
                    thread.handed = future
                    thread.wake.release()
                    return
                if len(self.threads) < self.max_workers:
                    self._spawn(future)
                    return
                if len(self._queue) < self.max_queued:
                    self._queue[future] = None
                    return
                if self.when_full == "reject":
                    raise QueueFull(self.name)
                self._room.wait()

    def _spawn(self, future: Future[Any]) -> None:
        thread = Thread(self, f"{self.name}_{self._made}", future)
        self._made += 1
        self.threads.add(thread)
        try:
            thread.python.start()
        except BaseException:
            self.threads.discard(thread)
            raise

    def next(self, thread: Thread) -> Future[Any] | None:
        """Return what the thread is to run next; None: it is to end, and no longer counts."""
        with self._lock:
            if self._queue:
                future, _ = self._queue.popitem(last=False)
                self._room.notify()
                return future
            if self._closed or self._broken:
                self.threads.discard(thread)
                return None
            self._idle.append(thread)
        if not thread.wake.acquire(timeout=self.idle):
            with self._lock:
                if thread in self._idle:
                    self._idle.remove(thread)
                    self.threads.discard(thread)
                    return None
            thread.wake.acquire()
        future, thread.handed = thread.handed, None
        return future

    def withdraw(self, future: Future[Any]) -> bool:
        """Take a call off the queue; whether it was still there."""
        with self._lock:
            if future not in self._queue:
                return False
            del self._queue[future]
            self._room.notify()
            return True

    def run_here(self, future: Future[Any]) -> bool:
        """See ``Future.run_here``."""
        if not self.withdraw(future):
            return False
        thread = current()
        if thread is not None:
            thread.run(future)
        else:
            run_plainly(future)
        return True

    def close(self, why: str) -> None:
        """Take nothing any more; end the threads once the queue is empty."""
        with self._lock:
            self._closed = self._closed or why
            for thread in self._idle:
                self.threads.discard(thread)
                thread.wake.release()
            self._idle.clear()
            self._room.notify_all()

    def withdraw_all(self) -> list[Future[Any]]:
        """Take every call off the queue."""
        with self._lock:
            futures = list(self._queue)
            self._queue.clear()
            self._room.notify_all()
            return futures

    def break_down(self, thread: Thread) -> None:
        """Fail what waits, and refuse what comes: the initializer failed in ``thread``."""
        why = f"{self.name}: an initializer failed, so that the pool runs nothing any more"
        with self._lock:
            self._broken = why
            self.threads.discard(thread)
            first, thread.handed = thread.handed, None
        self.close(why)
        for future in [*([first] if first else []), *self.withdraw_all()]:
            if future.set_running_or_notify_cancel():
                future.end(error=BrokenThreadPool(why))
