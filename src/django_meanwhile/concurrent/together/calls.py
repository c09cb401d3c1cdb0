"""``parallel()`` and ``aparallel()``: several calls or queries at once, their results in order.

::

    admission ─▶ no atomic() here? ─▶ surroundings, once ─▶ [snapshot: exported] ─▶ gathering ─▶ results, or errors

Here is what is asked before anything starts; how calls are started, awaited and stopped is ``gathering``'s.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from ...tasks.transactions import is_inside
from ..admission import Call, admit, close_coroutines
from ..context import capture
from ..threads.executor import default_executor
from ..threads.lending import executor_for_here
from ..transactions import refuse_inside_transaction, runs_inline
from ..waiting import refuse_on_a_loop
from .async_gathering import AsyncGathering
from .gathering import Gathering, Terms
from .options import max_workers_of, timeout_of
from .signatures import AParallel, Parallel, typed
from .snapshot import Snapshot, aexport, alias_of, export


@typed(Parallel)
def parallel(
    *calls: Any,
    max_workers: int | None = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    snapshot: bool | str = False,
    outside_transaction: bool = False,
) -> tuple[Any, ...]:
    """Run functions and queries at once, each in a thread. Not durable: for work that must survive, use @task.

    ::

        books, authors, rating = parallel(Book.objects.all(), Author.objects.filter(...), fetch_rating)

    Takes functions without arguments (``functools.partial`` supplies them) and querysets, which are evaluated into
    themselves: the result of a queryset is that same queryset. Returns the results in order, in a tuple.

    ``max_workers``          at most so many at once; at most the size of ``default_executor()`` run in any case.
    ``timeout``              seconds, after which ``TimeoutError`` names what had not ended, and the rest is stopped.
    ``return_exceptions``    return exceptions among the results; none stops the others.
    ``snapshot``             True, or an alias: on PostgreSQL all see one state of that database, read-only.
    ``outside_transaction``  allow it inside ``atomic()``, of which the calls see nothing.

    Errors are raised together, in an ``ExceptionGroup``; the first one stops the rest. When it returns or raises,
    nothing of it runs any more, except what ``TimeoutError`` names as still running.
    """
    options = _options("parallel", max_workers, timeout)
    alias = alias_of(snapshot)
    admitted = admit("parallel()", calls, alias=alias)
    refuse_on_a_loop("parallel()", "await aparallel(...)")
    refuse_inside_transaction("parallel()", outside_transaction=outside_transaction)
    if not admitted:
        return ()
    terms = Terms(**options, return_exceptions=return_exceptions, is_inline=runs_inline())
    surroundings = capture("parallel()")
    if alias is None:
        return Gathering("parallel()", admitted, terms, executor_for_here(), surroundings).run()
    with export(alias) as shared:
        seeing = _under(shared, admitted)
        return Gathering("parallel()", seeing, terms, executor_for_here(), surroundings).run()


@typed(AParallel)
async def aparallel(
    *calls: Any,
    max_workers: int | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as parallel(), whose calls asyncio.timeout() could not stop
    return_exceptions: bool = False,
    snapshot: bool | str = False,
    outside_transaction: bool = False,
) -> tuple[Any, ...]:
    """Run coroutines, functions and queries at once. Not durable: for work that must survive, use @task.

    ::

        books, count, rating = await aparallel(Book.objects.all(), Author.objects.acount(), fetch_rating)

    As ``parallel()``, and takes coroutine functions without arguments and awaitables, too. Functions and querysets run
    in threads. Each coroutine is a task whose ORM calls have a thread and connection of their own, so that those of
    several coroutines really run at once. It never blocks the event loop; when the task that awaits it is cancelled,
    all is stopped and awaited.
    """
    try:
        options = _options("aparallel", max_workers, timeout)
        alias = alias_of(snapshot)
        admitted = admit("aparallel()", calls, awaits=True, alias=alias)
        # Where the ORM calls of this coroutine run, and so where its transactions and those of its caller are.
        is_inline, is_atomic = await sync_to_async(_look_around, thread_sensitive=True)(outside_transaction, alias)
        if not admitted:
            return ()
        terms = Terms(**options, return_exceptions=return_exceptions, is_inline=is_inline)
        surroundings = capture("aparallel()")
    except BaseException:
        close_coroutines(calls)
        raise
    if alias is None:
        return await AsyncGathering("aparallel()", admitted, terms, default_executor(), surroundings).arun()
    async with aexport(alias, in_callers_thread=is_inline or is_atomic) as shared:
        seeing = _under(shared, admitted)
        return await AsyncGathering("aparallel()", seeing, terms, default_executor(), surroundings).arun()


def _options(what: str, max_workers: int | None, timeout: float | None) -> dict[str, Any]:
    return {"max_workers": max_workers_of(what, max_workers), "timeout": timeout_of(what, timeout)}


def _under(snapshot: Snapshot, calls: list[Call]) -> list[Call]:
    return [Call(call.given, snapshot.wrap(call.function)) for call in calls]


def _look_around(outside_transaction: bool, alias: str | None) -> tuple[bool, bool]:  # noqa: FBT001
    """Refuse in ``atomic()``; return whether a test has a transaction around all, and others one on ``alias``."""
    refuse_inside_transaction("aparallel()", outside_transaction=outside_transaction)
    return runs_inline(), alias is not None and is_inside(connections[alias])
