"""``TaskGroup``: structured concurrency for sync code, with the rules of ``asyncio.TaskGroup``.

::

    with TaskGroup() as group: ──▶ create_task ──▶ [waits for one of max_workers] ──▶ the pool ──▶ ended
                                        ▲                                                            │
                                        └────── a task may create others while the group is open ◀───┘

The rules of the end are ``scope``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import CancelledError
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from ..admission import Call, admit_function
from ..context import capture
from ..threads.future import Future
from ..threads.lending import executor_for_here
from ..threads.thread import Thread, run_plainly
from ..transactions import refuse_inside_transaction, runs_inline
from ..waiting import refuse_on_a_loop
from .endings import ShuttingDown, came_of_stopping
from .options import max_workers_of
from .scope import BASE, FULL, Member, Scope

P = ParamSpec("P")
T = TypeVar("T")

_UNHANDLED = "unhandled errors in a TaskGroup"


class TaskGroup:
    """Run functions in threads; none outlives the ``with`` block. Not durable: for work that must survive, use @task.

    ::

        with TaskGroup() as group:
            books = group.create_task(load_books, author.pk)
            rating = group.create_task(fetch_rating, author.pk)
        page = render(books.result(), rating.result())

    The first error stops the rest: what has not begun is cancelled, running queries are interrupted, ``create_task()``
    raises ``RuntimeError``. At the end of the block all errors are raised in one ``ExceptionGroup``; so is an exception
    of the block itself, which stops the tasks as well. At most ``max_workers`` tasks run at once. Inside ``atomic()``
    it cannot be entered, unless with ``outside_transaction``.
    """

    def __init__(self, max_workers: int | None = None, *, outside_transaction: bool = False) -> None:
        self._max_workers = max_workers_of("TaskGroup", max_workers)
        self._outside_transaction = outside_transaction
        self._scope: _Tasks | None = None
        self._is_exiting = False

    def __repr__(self) -> str:
        if self._scope is None:
            return "<TaskGroup>"
        count = len(self._scope.alive)
        state = " stopping" if self._scope.is_stopping else " entered"
        return f"<TaskGroup{f' tasks={count}' if count else ''}{state}>"

    def __enter__(self) -> Self:
        if self._scope is not None:
            raise RuntimeError(f"{self!r} has already been entered: make another one.")
        refuse_on_a_loop("TaskGroup()", "async with asyncio.TaskGroup(), or await aparallel(...)")
        refuse_inside_transaction("TaskGroup()", outside_transaction=self._outside_transaction)
        self._scope = _Tasks(self._max_workers, is_inline=runs_inline())
        self._scope.__enter__()
        return self

    def create_task(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call ``function``; return its future. May be called by the group's own tasks.

        Raises ``RuntimeError`` before and after the block, and once a task has failed. In a ``TestCase`` the call has
        ended when this returns.
        """
        scope = self._scope
        if scope is None:
            raise RuntimeError(f"{self!r} has not been entered: write with TaskGroup() as group.")
        if self._is_exiting and not scope.alive:
            raise RuntimeError(f"{self!r} is finished: its block has ended.")
        admit_function("create_task()", function)
        return cast("Future[T]", scope.create(function, partial(function, *args, **kwargs)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope = self._scope
        if scope is None:
            raise RuntimeError(f"{self!r} has not been entered: write with TaskGroup() as group.")
        self._is_exiting = True
        try:
            if error is not None:
                scope.stop()
            scope.wait_for_tasks()
            if isinstance(error, BASE) and scope.base_error is None:
                return  # it goes on as it is
            if isinstance(error, CancelledError) and not scope.errors and not scope.is_cancelled:
                return
            if error is not None and not (scope.errors and came_of_stopping(error)):
                scope.add_error(error)
            scope.raise_errors(_UNHANDLED)
        finally:
            scope.__exit__()
            del scope, error, trace  # the exception group's traceback would hold itself


class _Tasks(Scope):
    """The tasks of a group."""

    def __init__(self, max_workers: int | None, *, is_inline: bool) -> None:
        super().__init__("TaskGroup()")
        executor = executor_for_here()
        self._pool, self._helps = executor._pool, executor.is_mine()  # noqa: SLF001
        self._runs_what_finds_no_room = self._helps and self._pool.when_full == "wait"  # as put() does
        self._limit, self._is_inline = max_workers, is_inline
        self._count = 0
        # Under the lock:
        self._waiting: deque[Member] = deque()  # for one of max_workers to end
        self._started: set[Member] = set()

    def create(self, function: Any, call: Callable[[], Any]) -> Future[Any]:
        """Start a task, or have it wait for its turn."""
        self._count += 1
        member = self.add(Call(function, call), self._count)
        if member is None:
            raise ShuttingDown("The TaskGroup is shutting down: one of its tasks, or its block, has failed.")
        try:
            future: Future[Any] = Future(self._pool, member, (), {}, capture("create_task()"))
            self.watch(member, future)
            if self._is_inline:
                run_plainly(future)
            elif self._has_turn(member):
                self._pool.put(future)
        except BaseException:
            self.withdraw(member)
            raise
        return future

    def _has_turn(self, member: Member) -> bool:
        with self.lock:
            if self._limit is not None and len(self._started) >= self._limit:
                self._waiting.append(member)
                self.wake()
                return False
            self._started.add(member)
            self.wake()  # who waits may run it
            return True

    def ended(self, member: Member, future: Any) -> None:
        """See ``Scope``. The next one has its turn."""
        super().ended(member, future)
        with self.lock:
            self._started.discard(member)
            was_waiting = member in self._waiting
            if was_waiting:
                self._waiting.remove(member)
            member.future = None  # an error's traceback leads to its member, and so to itself
        if was_waiting:
            future.drop()  # cancelled, and in no queue where others would be told so
        if not self.start_waiting():
            with self.lock:
                self.wake()  # who waits for the tasks is to look for room

    def is_pending(self, member: Member) -> bool:
        """See ``Scope``. Not before its turn: until then it is in no queue to be taken from."""
        return member in self._started and super().is_pending(member)

    def can_end(self, member: Member, blocked: AbstractSet[Thread]) -> bool:
        """See ``Scope``. What waits for its turn waits for the others, and then for room in the pool."""
        if member in self._started or self.is_stopping or self._runs_what_finds_no_room:
            return super().can_end(member, blocked)
        return self._pool.could_run(None, blocked)

    def start_waiting(self, *, runs: bool = False) -> bool:
        """Start what waits for its turn; whether all that may run now does.

        With ``runs`` the calling thread runs itself what the pool has no room for.
        """
        while self._is_a_turn():
            if not runs and self._pool.is_full():
                return False
            future = self._take_turn()
            if future is not None:
                try:
                    self._pool.put(future)
                except Exception as error:  # noqa: BLE001 - who waits for the task is told
                    future.fail(error)
        return True

    def _is_a_turn(self) -> bool:
        with self.lock:
            return self._can_start()

    def _take_turn(self) -> Future[Any] | None:
        with self.lock:
            if not self._can_start():
                return None
            member = self._waiting.popleft()
            self._started.add(member)
            self.wake()
            return cast("Future[Any]", member.future)

    def _can_start(self) -> bool:
        return not self.is_stopping and bool(self._waiting) and len(self._started) < (self._limit or 0)

    def wait_for_tasks(self) -> None:
        """Wait until no task is alive."""
        try:
            while True:
                if self.start_waiting(runs=self._runs_what_finds_no_room):
                    self.wait(self._is_over_or_to_start, helps=self._helps)
                else:
                    self.wait(self._is_over, look=monotonic() + FULL, helps=self._helps)
                if not self.alive:
                    return
        except BaseException as error:
            self.end_after(error, helps=self._helps)
            raise

    def _is_over(self) -> bool:
        return not self.alive

    def _is_over_or_to_start(self) -> bool:
        return not self.alive or self._can_start()

    def add_error(self, error: BaseException) -> None:
        """Add the block's own exception, unless it is one of a task."""
        with self.lock:
            if all(error is not other for _, other in self.errors):
                self.errors.append((0, error))
