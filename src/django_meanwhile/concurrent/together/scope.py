"""Calls that end together: the first error stops the rest, and nothing outlives the place that waits for them.

The one implementation of these rules. ``gathering`` (``parallel``, ``aparallel``) and ``group`` (``TaskGroup``) start
the calls and wait; a scope knows which are alive, what went wrong, and how all are stopped::

    start ──▶ alive ──┬─▶ ended well
                      ├─▶ error ─────▶ kept; the first one stops the rest
                      └─▶ stopped by us: whatever that raises in it is no error of its own

A scope that was begun in a call of another scope, in the same thread, is stopped with that call. It never starts
anything, and holds no lock while it calls what is not its own.

A thread of a pool that waits here without a deadline is seen by ``deadlock``. If its wait is refused, what keeps it has
failed with ``WouldDeadlock``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent import futures
from contextvars import ContextVar
from time import monotonic
from typing import Any, Self

from ... import logs
from ...core.errors import WouldDeadlock
from ..admission import Call, label_of, outcome
from ..threads import deadlock
from ..threads.future import Future
from ..threads.thread import Thread, current
from .awaiting import Ends
from .endings import came_of_stopping, error_of

logger = logs.get_logger("concurrent")

AGAIN = 0.2
"""Seconds after which what is still alive is stopped again: a query that began just then was missed."""

STOP_WITHIN = 1.0
"""Seconds that a stopped call has to end before it is said to be still running, where somebody is not to wait."""

BASE = (KeyboardInterrupt, SystemExit)
"""What is raised as itself, in no group."""

FULL = 0.01
"""Seconds after which a full queue is tried again, if no call of the scope ends before."""


class Member:
    """One call of a scope. Called in the thread that runs it."""

    __slots__ = ("_inner", "call", "future", "is_stopped", "place", "scope", "thread")

    def __init__(self, scope: Scope, call: Call, place: int) -> None:
        self.scope, self.call, self.place = scope, call, place
        self.future: Any = None  # ours, or an asyncio.Task
        self.thread = 0
        self.is_stopped = False  # under the scope's lock, as what is put into _inner
        self._inner: dict[Scope, None] = {}

    def __call__(self) -> Any:
        """Run it, in the thread that calls this."""
        self.thread = threading.get_ident()
        token = _current.set(self)
        try:
            return outcome(self.call.function())
        finally:
            _current.reset(token)
            self.thread = 0

    def done(self, future: Any) -> None:
        """Called when the future is done."""
        self.scope.ended(self, future)

    @property
    def __wrapped__(self) -> Any:
        """What the caller passed: messages of the executor name that."""
        return self.call.given

    @property
    def label(self) -> str:
        """What a reader knows it by."""
        return label_of(self.call.given)

    def stop(self) -> None:
        """Stop it, and what it waits for. Not of a coroutine."""
        with self.scope.lock:
            self.is_stopped = True
            inner = list(self._inner)
        future = self.future
        if future is not None:
            future.stop()
        for scope in inner:
            scope.stop_from_outside()

    def adopt(self, scope: Scope) -> None:
        """Stop ``scope`` when this call is stopped; at once, if it is already."""
        with self.scope.lock:
            self._inner[scope] = None
            is_stopped = self.is_stopped
        if is_stopped:
            scope.stop_from_outside()

    def release(self, scope: Scope) -> None:
        """``scope`` has ended. Takes no lock: the collector may call it, by the finalizer of a map, at any moment."""
        self._inner.pop(scope, None)


_current: ContextVar[Member | None] = ContextVar("django_meanwhile.concurrent.member", default=None)


def current_member() -> Member | None:
    """Return the call that this thread runs. A call that was handed on to another thread is none of its."""
    member = _current.get()
    return member if member is not None and member.thread == threading.get_ident() else None


class Scope:
    """What is alive of a number of calls, and what went wrong. Safe in threads.

    ``what`` names it in messages. With ``stops=False`` an error stops nothing (``return_exceptions``).
    """

    def __init__(self, what: str, *, stops: bool = True) -> None:
        self.what, self._stops = what, stops
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        # Under the lock:
        self.alive: dict[Member, None] = {}
        self.errors: list[tuple[int, BaseException]] = []
        self.base_error: BaseException | None = None
        self.is_stopping = False
        self.is_cancelled = False  # stopped by whoever waits for the scope, not by an error in it
        self._is_abandoned = False
        self.given_up: dict[Any, BaseException] = {}  # futures that could never end, and why
        self._helps = False  # whether the thread that waits runs what is pending
        self._parent = current_member()

    def __enter__(self) -> Self:
        if self._parent is not None:
            self._parent.adopt(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._parent is not None:
            self._parent.release(self)

    # --- beginning and end of a member ---

    def add(self, call: Call, place: int) -> Member | None:
        """Return a new member, alive from now on; None if the scope is being stopped."""
        member = Member(self, call, place)
        with self.lock:
            if self.is_stopping:
                return None
            self.alive[member] = None
        return member

    def watch(self, member: Member, future: Any) -> None:
        """The member is to run as ``future``, which nobody else knows yet."""
        if isinstance(future, Future):
            future.on_end(member.done)
        else:
            future.add_done_callback(member.done)
        member.future = future  # from here on, others may stop it
        if self.is_stopping:  # since it was added; whoever did that may have come too early to see its future
            member.stop()

    def withdraw(self, member: Member) -> None:
        """The member could not be started."""
        with self.lock:
            self.alive.pop(member, None)
            self.wake()

    def ended(self, member: Member, future: Any) -> None:
        """Note how a member ended; the first error stops the rest. In any thread.

        ``future`` is the member's, which may have let go of it by now.
        """
        error = error_of(future)
        # Once all is being stopped, what is not may not have been reached yet, and yet have been refused something.
        if error is not None and (member.is_stopped or self.is_stopping) and came_of_stopping(error):
            error = None
        if error is not None:
            with self.lock:
                self.errors.append((member.place, error))
                if isinstance(error, BASE) and self.base_error is None:
                    self.base_error = error
                is_abandoned = self._is_abandoned
            if is_abandoned:
                self._log_late(member, error)
            elif self._stops or isinstance(error, BASE):
                self.stop(member)
        with self.lock:
            self.alive.pop(member, None)  # only now: who waits for the end may then rely on the rest being stopped
            if not self.alive or self.wants_every_end():
                self.wake()

    def wants_every_end(self) -> bool:
        """Whether whoever waits is to be woken by each end, not only by the last."""
        return False

    # --- stopping ---

    def stop(self, besides: Member | None = None) -> None:
        """Stop all that is alive, once; nothing more can be added."""
        with self.lock:
            if self.is_stopping:
                return
            self.is_stopping = True
            members = [member for member in self.alive if member is not besides and member.future is not None]
            self.wake()
        self.stop_members(members)

    def wake(self) -> None:
        """Wake whoever waits. The lock is held."""
        self.changed.notify_all()

    def stop_members(self, members: Sequence[Member]) -> None:
        """Stop these: pending ones first, so that none of them begins meanwhile."""
        for member in [member for member in members if not cancel(member.future)]:
            member.stop()

    def stop_from_outside(self) -> None:
        """Stop it because the call that it is a part of is stopped."""
        with self.lock:
            self.is_cancelled = self.is_cancelled or not self.is_stopping
        self.stop()

    # --- waiting, in a thread ---

    def wait(
        self,
        is_over: Callable[[], bool],
        *,
        deadline: float | None = None,
        look: float | None = None,
        helps: bool = False,
    ) -> bool:
        """Wait until ``is_over()``, asked under the lock at each change; say whether it was in time.

        With ``helps``, which a thread of the pool must, the calling thread runs what no other thread has begun.
        ``look`` is a deadline at which the caller looks, and goes on waiting.
        """
        here = current() if deadline is None else None
        limit = look if deadline is None else deadline
        while True:
            with self.lock:
                if is_over():
                    return True
                future = self._pending() if helps else None
                if future is None:
                    left = self.until(limit)
                    if left is not None and left <= 0:
                        return False
                    if here is None:
                        self.changed.wait(left)
            if future is not None:
                future.run_here()  # or another thread has just begun it
                continue
            if here is not None:
                self._wait_seen(here, is_over, limit, helps=helps)
            if self.is_stopping:
                self.stop_again()

    def _wait_seen(self, here: Thread, is_over: Callable[[], bool], limit: float | None, *, helps: bool) -> None:
        """Wait for one change, as a thread of a pool, for which others may wait in turn."""
        ends = Ends(self)
        try:
            with deadlock.waiting(here, ends, wake=ends.wake) as wait, self.lock:
                if not wait.is_refused() and not is_over() and not (helps and self._pending()):
                    self.changed.wait(self.until(limit))
        except WouldDeadlock as error:
            if ends.runner() is not None:  # and so would be told itself, but waits for itself
                raise
            self._give_up(ends.stuck, error)

    def _pending(self) -> Any:
        """Return a future that a thread that waits may run, or None. The lock is held."""
        pending = next(filter(self.is_pending, self.alive), None)
        return None if pending is None else pending.future  # another thread may end it, and so take it away

    def is_pending(self, member: Member) -> bool:
        """Whether a thread that waits may run it."""
        future = member.future
        return future is not None and not isinstance(future, asyncio.Task) and not (future.running() or future.done())

    def until(self, deadline: float | None) -> float | None:
        """Return how long to wait now: to the deadline, or, while all is being stopped, to when that is repeated."""
        left = None if deadline is None else deadline - monotonic()
        if not self.is_stopping:
            return left
        return AGAIN if left is None else min(AGAIN, left)

    def stop_again(self) -> None:
        """Interrupt what has gone on."""
        with self.lock:
            members = [member for member in self.alive if member.future is not None]
        self.stop_members(members)

    def wait_for_all(self, *, deadline: float | None = None, helps: bool = False) -> bool:
        """Wait until nothing is alive."""
        return self.wait(lambda: not self.alive, deadline=deadline, helps=helps)

    def end_after(self, _error: BaseException, *, helps: bool = False) -> None:
        """Stop all because the waiting thread was interrupted, and wait; another interruption ends that as well."""
        self.stop()
        try:
            self.wait_for_all(helps=helps)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> list[str]:
        """Let go of what could not be stopped: log it, and what it raises later; return its names."""
        with self.lock:
            self._is_abandoned = True
            left = sorted(self.alive, key=lambda member: member.place)
        labels = [member.label for member in left]
        for label in labels:
            logger.warning("%s: %s is still running: a thread's Python code cannot be stopped", self.what, label)
        return labels

    def _log_late(self, member: Member, error: BaseException) -> None:
        logger.error("%s: %s failed after it had been given up", self.what, member.label, exc_info=error)

    # --- a wait that would never end ---

    def can_end(self, member: Member, blocked: AbstractSet[Thread]) -> bool:
        """Whether a member can end although these threads never go on. Takes no lock of the scope."""
        if (self._helps or self.is_stopping) and self.is_pending(member):
            return True  # whoever waits runs it, or whoever stops cancels it
        future = member.future
        return future is None or bool(future.can_come(blocked))

    def _give_up(self, stuck: Sequence[Member], error: WouldDeadlock) -> None:
        """The wait for these was refused: they have not begun, and never could; as if they had failed."""
        error.__traceback__ = None  # frames of ours, through which it would hold itself
        with self.lock:
            self.errors.append((stuck[0].place, error))
        if self._stops:
            self.stop()
        else:
            self.given_up.update((member.future, error) for member in stuck)
            self.stop_members(stuck)

    # --- the sum ---

    def raise_errors(self, message: str) -> None:
        """Raise what went wrong, if anything, as one group; a ``KeyboardInterrupt`` or ``SystemExit`` as itself."""
        if self.base_error is not None:
            error, self.base_error, self.errors = self.base_error, None, []
            try:
                raise error
            finally:
                del error  # as below
        if self.errors:
            errors, self.errors = [error for _, error in self.errors], []
            try:
                raise BaseExceptionGroup(message, errors) from None
            finally:
                del errors  # its frame is in the traceback: a cycle that keeps every local alive
        if self.is_cancelled:
            raise futures.CancelledError(f"{self.what} was stopped, because the call that it is a part of was.")


def cancel(future: Any) -> bool:
    """Cancel a member's future if it has not begun; whether nothing is left to stop."""
    return future is None or bool(future.cancel())
