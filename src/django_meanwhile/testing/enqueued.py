"""Assertions about what is queued, and a record of what is enqueued in a block.

``assert_enqueued`` looks at the database: what is READY or SCHEDULED there now, in the test's own transaction too.
``capture_enqueued`` listens to the signal ``task_enqueued``: what was enqueued since, whether or not it has run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from ..compat import task_enqueued
from ..core.states import JobState
from ..models import Job
from .backends import database_backend, database_backends, refuse_event_loop
from .naming import backend_of, names_of
from .wanted import Seen, Wanted, complaint

if TYPE_CHECKING:
    from ..tasks.result import TaskResult
    from .naming import AnyTask

P = ParamSpec("P")
T = TypeVar("T")

_QUEUED = (JobState.SCHEDULED, JobState.READY)


def assert_enqueued(
    task: AnyTask,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    count: int | None = None,
    queue: str | None = None,
    priority: int | None = None,
    backend: str | None = None,
) -> list[TaskResult[Any]]:
    """Fail unless a job of ``task`` is queued, or exactly ``count`` jobs; return them, oldest first.

    What is None is not looked at. ``args`` and ``kwargs`` are compared as the worker will get them (a tuple is a
    list); an expected value may be anything that compares, such as ``unittest.mock.ANY``.
    """
    __tracebackhide__ = True
    refuse_event_loop("assert_enqueued()", "await aassert_enqueued(...)")
    wanted = Wanted(names_of(task), args, kwargs, queue, priority)
    source = database_backend(backend or backend_of(task), "assert_enqueued()")
    rows = Job.objects.using(source.database).filter(state__in=_QUEUED).order_by("id")
    seen = [Seen.from_row(row) for row in rows]
    found = _check(wanted, seen, count, "queued")
    return [source.get_result(one.id) for one in found]


def assert_not_enqueued(
    task: AnyTask,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    backend: str | None = None,
) -> None:
    """Fail if such a job is queued. See ``assert_enqueued``."""
    __tracebackhide__ = True
    refuse_event_loop("assert_not_enqueued()", "await aassert_not_enqueued(...)")
    assert_enqueued(task, args, kwargs, count=0, queue=queue, priority=priority, backend=backend)


def _twin(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the same for async code: the thread of the test's connection does the work."""

    async def twin(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)

    twin.__name__ = twin.__qualname__ = f"a{function.__name__}"
    twin.__doc__ = f"See ``{function.__name__}``."
    return twin


aassert_enqueued = _twin(assert_enqueued)
aassert_not_enqueued = _twin(assert_not_enqueued)


class Captured:
    """What was enqueued in a block. ``results`` are what ``enqueue()`` returned, as it was then."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def of(self, task: AnyTask) -> list[Any]:
        """Return the results of one task."""
        names = names_of(task)
        return [result for result in self.results if Seen.from_result(result).task in names]

    def assert_enqueued(
        self,
        task: AnyTask,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        count: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
    ) -> list[Any]:
        """As the function of that name, but about this block: also jobs that have run since.

        A job whose transaction was rolled back does not count.
        """
        __tracebackhide__ = True
        refuse_event_loop("assert_enqueued()", "await captured.aassert_enqueued(...)")
        wanted = Wanted(names_of(task), args, kwargs, queue, priority)
        gone = self._rolled_back()
        by_id = {result.id: result for result in self.results if result.id not in gone}
        found = _check(wanted, [Seen.from_result(result) for result in by_id.values()], count, "enqueued in this block")
        return [by_id[one.id] for one in found]

    def assert_not_enqueued(self, task: AnyTask, *args: Any, **kwargs: Any) -> None:
        """See ``assert_enqueued``."""
        __tracebackhide__ = True
        self.assert_enqueued(task, *args, **{**kwargs, "count": 0})

    async def aassert_enqueued(self, *args: Any, **kwargs: Any) -> list[Any]:
        """See ``assert_enqueued``."""
        __tracebackhide__ = True
        return await sync_to_async(self.assert_enqueued, thread_sensitive=True)(*args, **kwargs)

    async def aassert_not_enqueued(self, *args: Any, **kwargs: Any) -> None:
        """See ``assert_enqueued``."""
        __tracebackhide__ = True
        await sync_to_async(self.assert_not_enqueued, thread_sensitive=True)(*args, **kwargs)

    def _rolled_back(self) -> set[str]:
        """Return the ids of captured jobs whose rows are not there. Other backends have no rows, and no rollback."""
        aliases = {backend.alias: backend.database for backend in database_backends()}
        gone = set()
        for database in set(aliases.values()):
            ids = {result.id for result in self.results if aliases.get(result.backend) == database}
            there = Job.objects.using(database).filter(pk__in=ids).values_list("pk", flat=True) if ids else ()
            gone |= ids - {str(pk) for pk in there}
        return gone


@contextmanager
def capture_enqueued() -> Iterator[Captured]:
    """Record what is enqueued in the block, by any thread, on any backend of the dialect."""
    captured = Captured()

    def receive(*, task_result: Any, **_: Any) -> None:
        captured.results.append(task_result)

    task_enqueued.connect(receiver=receive, weak=False)
    try:
        yield captured
    finally:
        task_enqueued.disconnect(receiver=receive)


def _check(wanted: Wanted, seen: Sequence[Seen], count: int | None, where: str) -> list[Seen]:
    __tracebackhide__ = True
    found = [one for one in seen if wanted.matches(one)]
    if (not found) if count is None else len(found) != count:
        raise AssertionError(complaint(wanted, seen, found, count, where))
    return found
