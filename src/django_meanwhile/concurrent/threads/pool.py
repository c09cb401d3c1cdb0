"""A bounded queue and the threads that empty it. Made by ``executor``; the threads are ``thread``'s.

::

    put ─┬─ an idle thread: handed to it         idle: a stack, so that the threads at its bottom
         ├─ room for another thread: its first   grow cold, and end after ``idle`` seconds
         ├─ room in the queue: queued
         └─ full ─┬─ "reject": QueueFull
                  ├─ in a thread of this pool: run there, for waiting there would be waiting for itself
                  ├─ on an event loop: QueueFull, for all its coroutines would wait
                  └─ "wait": until there is room

A pool belongs to its threads, not to its executor: an executor that nobody refers to is
collected, and its pool's threads end once the queue is empty.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, cast

from ...core.errors import QueueFull
from ..transactions import is_inside_any
from . import deadlock, lifetime
from .future import Future
from .held import Lock
from .thread import Thread, current, run_plainly


class BrokenThreadPool(concurrent.futures.BrokenExecutor):
    """The call will never run: an initializer of its pool failed, or the process was forked."""


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Errand(enum.Enum):
    """What an idle thread may be handed in place of a call."""

    END = "end"
    GIVE_BACK = "close your connections, and stay"


class Pool:
    """``_lock`` guards everything that changes, and ``handed`` of each idle thread. It is held for moments only.

    What finalizers may call does not wait for it (``held``).
    """

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
        self._made = 0  # threads, ever
        self._refusal: tuple[type[Exception], str] | None = None  # why nothing is taken any more
        self._is_abandoned = False  # its executor was collected; written without the lock
        self._forget()
        lifetime.register(self)

    def _forget(self) -> None:
        self._lock = Lock()
        self._room = threading.Condition(cast("Any", self._lock))
        self._wanting_room = 0  # threads that wait for room
        self._queue: OrderedDict[Future[Any], None] = OrderedDict()
        self._elsewhere: set[Future[Any]] = set()  # taken off the queue by run_here(), and not ended
        self._threads: set[Thread] = set()
        self._leaving: set[Thread] = set()  # none of those any more, but still closing their connections
        self._idle: list[Thread] = []

    # --- for the executor -----------------------------------------------------------------

    def put(self, future: Future[Any]) -> None:
        """Have a thread run the call. Raises what the diagram says, and what a closed or broken pool refuses with."""
        while True:
            with self._lock:
                if self._is_taken(future):
                    return
                if self.when_full == "reject":
                    raise self._full('it was made with when_full="reject"')
            here = current()
            if here is not None and here.pool is self:
                if here.is_in_transaction():
                    raise self._full("this is a thread of its own inside atomic(), which can neither wait nor run it")
                here.run(future)
                return
            if _is_on_a_loop():
                raise self._full("this is an event loop, which must not wait: await aparallel() or aparallel_map()")
            if here is None:
                self._wait_for_room()
            else:
                with deadlock.waiting(here, self, wake=self._wake) as wait:
                    self._wait_for_room(wait)

    def _is_taken(self, future: Future[Any]) -> bool:
        """Hand over or queue a call, if there is room. Called under the lock."""
        if self._refusal is not None:
            error, why = self._refusal
            raise error(why)
        if self._idle:
            self._hand(self._idle.pop(), future)
        elif len(self._threads) < self.max_workers:
            self._begin_thread(future)
        elif len(self._queue) < self.max_queued:
            self._queue[future] = None
        else:
            return False
        return True

    def _begin_thread(self, future: Future[Any]) -> None:
        thread = Thread(self, f"{self.name}_{self._made}", future)
        self._threads.add(thread)
        try:
            thread.python.start()
        except BaseException:  # the system's limit, or the interpreter's end
            self._threads.discard(thread)
            raise
        self._made += 1

    @staticmethod
    def _hand(thread: Thread, what: Future[Any] | Errand) -> None:
        thread.handed = what
        thread.wake.release()

    def _wait_for_room(self, wait: deadlock.Wait | None = None) -> None:
        with self._lock:
            self._wanting_room += 1
            try:
                while self._is_full() and (wait is None or not wait.is_refused()):
                    self._room.wait()
            finally:
                self._wanting_room -= 1

    def _tell_of_room(self) -> None:
        if self._wanting_room:
            self._room.notify_all()

    def _wake(self) -> None:
        with self._lock:
            self._room.notify_all()

    def _is_full(self) -> bool:
        if self._refusal is not None or self._idle or len(self._threads) < self.max_workers:
            return False
        return len(self._queue) >= self.max_queued

    def _full(self, why: str) -> QueueFull:
        return QueueFull(
            f"{self.describe()} is full: {len(self._threads)} calls run and {len(self._queue)} of at most "
            f"{self.max_queued} wait; and {why}. Answer 503, say, and have the caller come again; or raise max_workers "
            'or max_queued (of default_executor(): MEANWHILE["CONCURRENT"]).'
        )

    def close(self, why: str, error: type[Exception] = RuntimeError) -> list[threading.Thread]:
        """Refuse what comes; the threads end once the queue is empty. Return them, and those that are about to end."""
        with self._lock:
            self._refusal = self._refusal or (error, why)
            self._end_idle()
            self._tell_of_room()
            return [thread.python for thread in (*self._threads, *self._leaving)]

    def abandon(self) -> None:
        """Take note that the executor was collected. May be called at any moment, also under the lock."""
        self._is_abandoned = True
        self._lock.do(self._end_idle)

    def _end_idle(self) -> None:
        while self._idle:
            self._hand(self._idle.pop(), Errand.END)

    def withdraw_all(self) -> list[Future[Any]]:
        """Take every call off the queue."""
        with self._lock:
            futures = list(self._queue)
            self._queue.clear()
            self._tell_of_room()
            return futures

    def threads(self) -> list[threading.Thread]:
        """Return the threads that have not ended."""
        with self._lock:
            return [thread.python for thread in self._threads]

    def is_broken(self) -> bool:
        """Whether an initializer has failed."""
        with self._lock:
            return self._refusal is not None and self._refusal[0] is BrokenThreadPool

    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._refusal is not None

    def is_full(self) -> bool:
        """Whether ``put()`` would have to wait just now, or to refuse."""
        with self._lock:
            return self._is_full()

    def describe(self) -> str:
        """Name the pool, for messages."""
        return f"executor {self.name!r} (max_workers={self.max_workers})"

    # --- for futures ------------------------------------------------------------------------

    def dismiss(self, future: Future[Any]) -> None:
        """Take a cancelled call off the queue, and tell that it was cancelled. May be called at any moment."""
        self._lock.do(partial(self._dismiss, future))

    def _dismiss(self, future: Future[Any]) -> Callable[[], None] | None:
        return future.drop if self._withdraw(future) else None

    def _withdraw(self, future: Future[Any]) -> bool:
        """Take a call off the queue; return whether it was there. Then only the caller may run or drop it."""
        if future not in self._queue:
            return False
        del self._queue[future]
        self._tell_of_room()
        return True

    def run_here(self, future: Future[Any]) -> bool:
        """See ``Future.run_here``."""
        here = current()
        if here.is_in_transaction() if here is not None else is_inside_any():
            return False
        with self._lock:
            if not self._withdraw(future):
                return False
            self._elsewhere.add(future)
        try:
            if here is not None:
                here.run(future)
            else:
                run_plainly(future)
        finally:
            with self._lock:
                self._elsewhere.discard(future)
        return True

    def could_run(self, future: Future[Any] | None, blocked: AbstractSet[Thread]) -> bool:
        """Whether some thread could come to run the call, or to make room, although those never go on."""
        with self._lock:
            if future is not None and future not in self._queue:
                return True
            return len(self._threads) < self.max_workers or not self._threads <= blocked

    # --- for deadlock: a wait for room ------------------------------------------------------

    def can_come(self, blocked: AbstractSet[Thread]) -> bool:
        """See ``deadlock.Awaited``."""
        return not self.is_full() or self.could_run(None, blocked)

    def describe_wait(self) -> str:
        """See ``deadlock.Awaited``."""
        return f"room in the queue of {self.describe()}, all of whose threads wait in turn"

    def runner(self) -> None:
        """See ``deadlock.Awaited``."""

    # --- for its threads --------------------------------------------------------------------

    def next(self, thread: Thread) -> Future[Any] | None:
        """Return what an unoccupied thread is to run next, after waiting for it; None: it is to end."""
        while True:
            with self._lock:
                if thread not in self._threads:  # the child of a fork in this very thread
                    return None
                if self._queue:
                    thread.handed, _ = self._queue.popitem(last=False)
                    self._tell_of_room()
                    return thread.handed
                if self._refusal is not None or self._is_abandoned:
                    self._end_idle()
                    self._leave(thread)
                    return None
                self._idle.append(thread)
                self._tell_of_room()
            handed = self._wait_idly(thread)
            if isinstance(handed, Future):
                return handed
            if handed is Errand.END:
                return None
            thread.close_connections()

    def _wait_idly(self, thread: Thread) -> Future[Any] | Errand:
        """Wait until something is handed over. Called by a thread that is idle, and can be seen to be."""
        # Whoever waits for a connection looks for idle threads once its waiting can be seen: between the two, neither
        # misses the other. Likewise abandon().
        if thread.is_wanted_back() and self._stop_idling(thread):
            return Errand.GIVE_BACK
        if self._is_abandoned:
            with self._lock:
                self._end_idle()
        if not thread.wake.acquire(timeout=self.idle):
            if self._stop_idling(thread, to_end=True):
                return Errand.END
            thread.wake.acquire()
        return cast("Future[Any] | Errand", thread.handed)

    def _stop_idling(self, thread: Thread, *, to_end: bool = False) -> bool:
        """Take a thread off the stack of idle ones; False if something has been handed to it by now."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            if to_end:
                self._leave(thread)
            return True

    def _leave(self, thread: Thread) -> None:
        self._threads.discard(thread)
        self._leaving.add(thread)

    def give_back(self, thread: Thread) -> bool:
        """Have a thread close its connections if it is idle; return whether it is."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._hand(thread, Errand.GIVE_BACK)
            return True

    def gone(self, thread: Thread) -> None:
        """Take note that a thread has ended, also by an error while it was idle."""
        with self._lock:
            self._threads.discard(thread)
            self._leaving.discard(thread)
            if thread in self._idle:
                self._idle.remove(thread)

    def break_down(self, first: Future[Any]) -> None:
        """Fail what waits, and refuse what comes: the initializer failed in a thread that was to run ``first``."""
        why = f"{self.describe()}: an initializer failed, so that it runs nothing any more"
        self.close(why, BrokenThreadPool)
        for future in [first, *self.withdraw_all()]:
            future.fail(BrokenThreadPool(why))

    # --- fork -------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Take the lock, so that the child gets consistent data."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Be empty, as new. Calls that the parent runs fail here; those of the forking thread go on."""
        here = current()
        lost = [*self._queue, *self._elsewhere]
        for thread in self._threads:
            if thread is not here:
                lost += [*thread.running(), *([thread.handed] if isinstance(thread.handed, Future) else [])]
        for future in lost:
            future.orphan(
                BrokenThreadPool(
                    f"{future.name} was given to {self.describe()} before this process was forked: it runs in the "
                    "parent, and only the parent learns its result. Submit it again here."
                )
            )
        self._forget()
