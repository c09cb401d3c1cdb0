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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ..core.errors import SnapshotUnavailable
from ..tasks.transactions import is_inside_a_test

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
        if connection.savepoint_ids:
            raise SnapshotUnavailable(
                f"snapshot on database {alias!r} inside a nested atomic(): PostgreSQL exports none from within a "
                "savepoint. Call it in the outermost atomic() block, or outside of any."
            )
        yield Snapshot(alias, _exported(connection))
    else:
        with transaction.atomic(using=alias, durable=True):
            with connection.cursor() as cursor:
                cursor.execute(_BEGIN)
            yield Snapshot(alias, _exported(connection), connection)


def _exported(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_EXPORT)
        (name,) = cursor.fetchone()
    return str(name)
