"""One consistent view of the data for calls on several connections: exported by one transaction, imported by others.

PostgreSQL only. Called by ``calls``::

    export()                       a call's thread                        when all have ended
    BEGIN, repeatable read,        BEGIN, repeatable read,                COMMIT of the
    read only                      read only                              exporting transaction
    pg_export_snapshot() ──id───▶  SET TRANSACTION SNAPSHOT 'id'
                                   the call's queries, COMMIT

The exporting transaction must stay open until the last import, so it is open until all calls have ended. It writes
nothing and never outlives the block. Behind pgbouncer in transaction mode this works: each transaction is one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ...conf import get_settings
from ...core.errors import ConnectionTimeout, SnapshotUnavailable
from ...tasks.transactions import is_inside_a_test
from ..context import capture
from ..threads.lending import lenders, until_ended
from ..threads.thread import current

_BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_EXPORT = "SELECT pg_export_snapshot()"


class Snapshot:
    """What all calls see. ``wrap`` makes a call see it; of use until its ``export()`` ends."""

    def __init__(self, alias: str, name: str | None, exporter: Any = None) -> None:
        self.alias = alias
        self._name = name  # None: the calls run in the one transaction of a test
        self._exporter = exporter

    def wrap(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that calls ``function`` in a read-only transaction that sees the snapshot."""

        def see() -> Any:
            if self._name is None or connections[self.alias] is self._exporter:
                return function()  # this thread's transaction is the snapshot's own
            with transaction.atomic(using=self.alias):
                with connections[self.alias].cursor() as cursor:
                    # One round trip. The name is the server's own: hexadecimal digits and dashes.
                    cursor.execute(f"{_BEGIN}; SET TRANSACTION SNAPSHOT '{self._name}'")
                return function()

        return see


def alias_of(snapshot: bool | str) -> str | None:  # noqa: FBT001 - as the user wrote it
    """Return the database that ``snapshot=`` means, or None; ``SnapshotUnavailable`` if it has no snapshots."""
    if snapshot is False:
        return None
    alias = DEFAULT_DB_ALIAS if snapshot is True else snapshot
    if alias not in connections:
        raise SnapshotUnavailable(
            f"snapshot={snapshot!r}: there is no database of this name; known: {', '.join(connections)}. "
            "Write True for 'default', or one of these."
        )
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise SnapshotUnavailable(
            f"snapshot={snapshot!r}: database {alias!r} is {connection.display_name}, where several connections cannot "
            "share one snapshot; PostgreSQL can. Without snapshot= each query sees what is committed when it begins; "
            "to see one state of the data here, run the queries one after another in one transaction."
        )
    return alias


@contextmanager
def export(alias: str) -> Iterator[Snapshot]:
    """Hold a snapshot open for the block, in a transaction of the calling thread's connection.

    Inside ``atomic()`` it is that transaction's: the calls then see what others had committed, and nothing of what the
    transaction itself has written. Inside ``TestCase`` nothing is exported: all runs on one connection.
    """
    connection = connections[alias]
    if is_inside_a_test(connection):
        yield Snapshot(alias, None)
    elif connection.in_atomic_block:
        if any(connection.savepoint_ids):
            raise SnapshotUnavailable(
                f"snapshot on database {alias!r} inside a nested atomic(): PostgreSQL exports none from within a "
                "savepoint. Call it in the outermost atomic() block, or outside of any."
            )
        yield Snapshot(alias, _exported(connection))
    else:
        with _place_for_here(alias), transaction.atomic(using=alias):
            with connection.cursor() as cursor:
                cursor.execute(_BEGIN)
            yield Snapshot(alias, _exported(connection), connection)


@contextmanager
def _place_for_here(alias: str, release: threading.Event | None = None) -> Iterator[None]:
    """In a thread of ours, whose connection counts, wait for a place; but where the thread has one already."""
    places: frozenset[str] = getattr(_here, "places", frozenset())
    if current() is None or alias in places:
        yield
        return
    _refuse_without_room(alias)
    with _place(alias, release or threading.Event()):
        _here.places = places | {alias}
        try:
            yield
        finally:
            _here.places = places


@asynccontextmanager
async def aexport(alias: str, *, in_callers_thread: bool) -> AsyncIterator[Snapshot]:
    """Do as ``export()``, without holding up the event loop.

    On a connection of its own: on the caller's, other coroutines of the same request would find themselves in a
    read-only transaction. Only a transaction that is open already is used where it is.
    """
    if in_callers_thread:
        held = export(alias)
        yield await sync_to_async(held.__enter__, thread_sensitive=True)()
        return  # it is somebody else's, and stays open
    exported: futures.Future[Snapshot] = futures.Future()
    release = threading.Event()
    _refuse_without_room(alias)
    holding = lenders().start(_hold, (alias, exported, release), {}, surroundings=capture("snapshot="))
    try:
        yield await asyncio.wrap_future(exported)
    finally:
        release.set()
        with _room:
            _room.notify_all()
        await until_ended(holding)


_LOOK = 0.1  # seconds after which whoever holds a snapshot looks whether the process ends
_here = threading.local()
_room = threading.Condition()
_holding: Counter[str] = Counter()  # threads that hold a snapshot, for each database; guarded by _room


def _hold(alias: str, exported: futures.Future[Snapshot], release: threading.Event) -> None:
    """Hold a snapshot open until it is released, in a thread that is lent for that."""
    if not exported.set_running_or_notify_cancel():
        return
    try:
        with _place_for_here(alias, release), export(alias) as snapshot:
            exported.set_result(snapshot)
            thread = current()
            while not release.wait(_LOOK):
                if thread is not None and thread.pool.is_closed():
                    return  # the process ends; a loop that was left standing never releases it
    except BaseException as error:
        if exported.done():
            raise
        exported.set_exception(error)


@contextmanager
def _place(alias: str, release: threading.Event) -> Iterator[None]:
    """Wait until fewer than half of the process's connections to it hold snapshots: the other half is for the calls.

    If every connection held one, each would wait for calls that wait for a connection.
    """
    settings = get_settings().concurrent
    most = settings.connections // 2
    with _room:
        if not _room.wait_for(lambda: _holding[alias] < most or release.is_set(), settings.connection_timeout):
            raise ConnectionTimeout(
                f"snapshot={alias!r}: {_holding[alias]} others hold one, half of what this process may open "
                f'(MEANWHILE["CONCURRENT"]["connections"] is {settings.connections}), and none ended within '
                f"{settings.connection_timeout:g} s. Raise that number if the database allows more."
            )
        _holding[alias] += 1
    try:
        yield
    finally:
        with _room:
            _holding[alias] -= 1
            _room.notify_all()  # who waits may wait for another database


def _after_fork_in_child() -> None:
    global _room  # noqa: PLW0603 - one for each process
    _room = threading.Condition()
    _holding.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _refuse_without_room(alias: str) -> None:
    """A connection of ours holds the snapshot, so that the calls need another one."""
    share = get_settings().concurrent.connections
    if share < 2:  # noqa: PLR2004
        raise SnapshotUnavailable(
            f'snapshot={alias!r}: MEANWHILE["CONCURRENT"]["connections"] is {share}: one connection holds the '
            "snapshot, and the calls need another. Write 2 or more."
        )


def _exported(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_EXPORT)
        (name,) = cursor.fetchone()
    return str(name)
