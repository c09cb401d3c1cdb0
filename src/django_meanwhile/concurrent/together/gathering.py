"""Several calls, one place where they end: what ``parallel()`` waits for, in a thread.

Called by ``calls``; ``async_gathering`` is the same on an event loop. The rules of the end are ``scope``'s; here is in
which order calls are started, how many at once, and what comes of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Timer
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...core.errors import QueueFull
from ...core.text import class_path, describe, summary
from ..admission import Call, label_of
from ..threads.daemons import make_daemon
from ..threads.future import Future
from ..threads.thread import run_plainly
from .endings import error_of
from .scope import FULL, STOP_WITHIN, Member, Scope

if TYPE_CHECKING:
    from ..context import Surroundings
    from ..threads.executor import ThreadPoolExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the calls are to be run, as the caller wrote it."""

    max_workers: int | None = None
    timeout: float | None = None
    return_exceptions: bool = False
    is_inline: bool = False  # in a TestCase: one after another, where the test's own connection is


class Gathering(Scope):
    """The calls of one ``parallel()``: run once, by ``run()``."""

    def __init__(
        self, what: str, calls: Sequence[Call], terms: Terms, executor: ThreadPoolExecutor, surroundings: Surroundings
    ) -> None:
        super().__init__(what, stops=not terms.return_exceptions)
        self._terms, self._pool, self._surroundings = terms, executor._pool, surroundings  # noqa: SLF001
        self._helps = executor.is_mine()  # it runs calls itself where the queue is full
        self._must_not_wait = terms.timeout is not None and not self._helps and self._pool.when_full == "wait"
        self._deadline = None if terms.timeout is None else monotonic() + terms.timeout
        self._limit = 1 if terms.is_inline else terms.max_workers or len(calls)
        self._room = self._limit  # how many may be alive, just now
        self._waiting = deque(enumerate(calls, start=1))
        self._members: list[Member] = []
        self._calls = calls
        self._late: list[str] = []  # what had not ended in time; under the lock
        self._left: list[str] = []  # what could not be stopped

    def wants_every_end(self) -> bool:
        """While calls wait for others to end."""
        return bool(self._waiting)

    def run(self) -> tuple[Any, ...]:
        """Start all, wait for all, return or raise what came of them."""
        helps = self._helps
        timer = self._timer() if helps else None
        with self:
            try:
                if not self._run_to_the_end(helps=helps):
                    self._time_is_up()
                    if not self.wait_for_all(deadline=monotonic() + STOP_WITHIN, helps=helps):
                        self._left = self.abandon()
            except BaseException as error:
                self.end_after(error, helps=helps)
                raise
            finally:
                if timer is not None:
                    timer.cancel()
        return self.results()

    def _run_to_the_end(self, *, helps: bool) -> bool:
        """Start and wait; whether all has ended in time."""
        while self._start_some():
            if not self.wait(self._has_room, deadline=self._next_look(), helps=helps) and self._is_late():
                return False
        return self.wait_for_all(deadline=self._deadline, helps=helps)

    def _timer(self) -> Timer | None:
        """A thread that runs one of the calls itself cannot watch the clock meanwhile."""
        if self._terms.timeout is None:
            return None
        timer = Timer(self._terms.timeout, self._time_is_up)
        make_daemon(timer)
        timer.start()
        return timer

    # --- starting ---

    def _start_some(self) -> bool:
        """Start as many as may run at once; whether there are others left."""
        self._room = self._limit
        while self._waiting and self._has_room():
            place, call = self._waiting.popleft()
            member = self.add(call, place)
            if member is None:  # the rest is being stopped
                self._waiting.clear()
                break
            try:
                is_started = self._start(member)
            except BaseException:
                self.withdraw(member)
                raise
            if not is_started:
                self.withdraw(member)
                self._waiting.appendleft((place, call))
                self._room = len(self.alive)  # the next one is tried when one of these has ended, or soon
                break
            self._members.append(member)
        return bool(self._waiting)

    def _has_room(self) -> bool:
        return self.is_stopping or len(self.alive) < self._room

    def _start(self, member: Member) -> bool:
        """Have the member run; False if the pool's queue is full just now."""
        future = Future(self._pool, member, (), {}, self._surroundings)
        if self._terms.is_inline:
            self._run_inline(member, future)
            return True
        if self._must_not_wait and self._pool.is_full():
            return False
        self.watch(member, future)
        try:
            self._pool.put(future)
        except QueueFull:
            if self._pool.when_full == "reject" or not self._must_not_wait:
                raise
            return False
        return True

    def _run_inline(self, member: Member, future: Future[Any]) -> None:
        """Run it now. In a TestCase each call has the whole ``timeout``, for really they run side by side."""
        begun = monotonic()
        self.watch(member, future)
        run_plainly(future)
        if self._terms.timeout is not None and monotonic() - begun > self._terms.timeout:
            self._time_is_up([member.label])

    def _next_look(self) -> float | None:
        """Until when to wait for room."""
        if self._room == self._limit:
            return self._deadline
        soon = monotonic() + FULL
        return soon if self._deadline is None else min(soon, self._deadline)

    def _is_late(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    # --- the end ---

    def _time_is_up(self, late: list[str] | None = None) -> None:
        """Stop the rest. An error that came before stays what the caller is told."""
        with self.lock:
            if not self.is_stopping:
                if late is None:
                    alive = sorted(self.alive, key=lambda member: member.place)
                    late = [*(member.label for member in alive), *(label_of(call.given) for _, call in self._waiting)]
                self._late = late
        self.stop()

    def results(self) -> tuple[Any, ...]:
        """Return or raise what came of the calls."""
        futures, self._members = [member.future for member in self._members], forgotten(self._members, self.alive)
        try:
            if self._late and self.base_error is None:
                raise TimeoutError(self._lateness())
            if self._terms.return_exceptions and self.base_error is None and not self.is_cancelled:
                return tuple(self.given_up.get(future) or ending_of(future) for future in futures)
            self.errors.sort(key=lambda pair: pair[0])
            self.raise_errors(self._failure())
            return tuple(result_of(future) for future in futures)
        finally:
            self.given_up.clear()  # a future leads to its scope
            del futures

    def _failure(self) -> str:
        """Say how many have failed, and of the first one what: where an error is shown, it may be by this alone."""
        if not self.errors:
            return ""
        place, error = self.errors[0]
        first = f"{label_of(self._calls[place - 1].given)}: {summary(class_path(error), describe(error))}"
        return f"{self.what}: {len(self.errors)} of {len(self._calls)} calls failed, first {first}"

    def _lateness(self) -> str:
        """Name each call that had not ended once: those that were stopped, then those that still run."""
        over = list(self._late)
        for label in self._left:
            over.remove(label)
        text = f"{self.what}: not done within {self._terms.timeout:g} s{': ' if over else ''}{', '.join(over)}."
        if self._terms.is_inline:
            return f"{text} (In a TestCase each call is run to its end, and the time is looked at then.)"
        if self._left:
            text += f" Still running, for a thread's Python code cannot be stopped: {', '.join(self._left)}."
        return text


def forgotten(members: Sequence[Member], alive: Container[Member]) -> list[Member]:
    """Have those that have ended let go of their futures: an error's traceback leads to its member, so to itself."""
    for member in members:
        if member not in alive:
            member.future = None
    return []


def result_of(future: Any) -> Any:
    """Return the result of a call that has ended well."""
    if isinstance(future, Future) and future._state == "FINISHED":  # noqa: SLF001 - three locks less
        return future._result  # noqa: SLF001
    return future.result()


def ending_of(future: Any) -> Any:
    """Return the result, or the exception that a call ended with, a cancellation included."""
    if future.cancelled():
        return CancelledError()
    error = error_of(future)
    return result_of(future) if error is None else error
