"""The same work by the bare driver: what a programmer would write by hand for this table and no other.

The same rows in the same table with the same indexes and constraints, and the database's clock where ours uses it. No
epochs, no fences, no cancels, no several queues: what these cost is what the comparison is to show. Statements are
prepared by the driver, and everything that Python can prepare (ids, rows) is prepared before the clock starts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from django_meanwhile.core.identifiers import uuid7

if TYPE_CHECKING:
    import psycopg

COPIED = ("task", "backend", "queue", "executor", "rank", "retry_on_crash", "overrides", "arguments", "context")
_COLUMNS = f"id, {', '.join(COPIED)}, state, suspect, epoch, enqueued_at, attempts, crashes, interruptions, deaths"

Row = tuple[Any, ...]


class Raw(Protocol):
    """One open connection in autocommit, and the few things that a queue does with it."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run anything (placeholders: ``%s``), and return its rows."""
        ...

    def rows(self, number: int) -> list[Row]:
        """Make that many rows of new ids and what ``like`` copied."""
        ...

    def insert(self, row: Row) -> None:
        """Insert one row."""
        ...

    def insert_many(self, rows: list[Row]) -> None:
        """Insert many rows, all or none."""
        ...

    def claim(self, worker_id: UUID, executor: str, limit: int) -> list[Row]:
        """Claim READY jobs of the queue "default"; the id comes first in each row."""
        ...

    def finish(self, claimed: list[Row], result: str) -> None:
        """Write the same result for all of them."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RawSQLite:
    """``sqlite3``, with the same synchronous as the project's own connections."""

    _NOW = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
    _INSERT = (
        f"INSERT INTO meanwhile_job ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 2, 0, 0, {_NOW}, 0, 0, 0, 0)"
    )
    _CLAIM = f"""
        UPDATE meanwhile_job SET state = 3, worker_id = ?, epoch = epoch + 1, attempts = attempts + 1,
            started_at = {_NOW}, attempted_at = {_NOW}
        WHERE id IN (
            SELECT id FROM meanwhile_job WHERE queue = 'default' AND executor = ? AND state = 2 AND suspect = 0
            ORDER BY rank, id LIMIT ?)
        RETURNING id, task, arguments"""
    _FINISH = f"""
        UPDATE meanwhile_job SET
            state = 4, last_worker_id = worker_id, worker_id = NULL, finished_at = {_NOW}, result = ?
        WHERE id IN (SELECT value FROM json_each(?))"""

    def __init__(self, name: str, init: str) -> None:
        self._connection = sqlite3.connect(name, timeout=10, isolation_level=None)
        self._connection.executescript(init)
        self._like: Row = ()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(statement.replace("%s", "?"), parameters).fetchall()

    def rows(self, number: int) -> list[Row]:
        self._like = self._like or _like(self)
        return [(uuid7().hex, *self._like) for _ in range(number)]

    def insert(self, row: Row) -> None:
        self._connection.execute(self._INSERT, row)

    def insert_many(self, rows: list[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._INSERT, rows)
        self._connection.execute("COMMIT")

    def claim(self, worker_id: UUID, executor: str, limit: int) -> list[Row]:
        return self._connection.execute(self._CLAIM, (worker_id.hex, executor, limit)).fetchall()

    def finish(self, claimed: list[Row], result: str) -> None:
        self._connection.execute(self._FINISH, (result, json.dumps([row[0] for row in claimed])))

    def close(self) -> None:
        self._connection.close()


class RawPostgreSQL:
    """psycopg 3, which binds on the server and prepares what it sees often; many rows go as arrays."""

    _NOW = "clock_timestamp() AT TIME ZONE 'UTC'"
    _INSERT = (
        f"INSERT INTO meanwhile_job ({_COLUMNS})"
        f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 2, FALSE, 0, {_NOW}, 0, 0, 0, 0)"
    )
    _INSERT_MANY = f"""
        INSERT INTO meanwhile_job ({_COLUMNS}) SELECT n.*, 2, FALSE, 0, {_NOW}, 0, 0, 0, 0
        FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int2[], %s::bool[], %s::text[],
            %s::text[], %s::text[]) n"""
    _CLAIM = f"""
        UPDATE meanwhile_job SET state = 3, worker_id = %s, epoch = epoch + 1, attempts = attempts + 1,
            started_at = {_NOW}, attempted_at = {_NOW}
        WHERE id = ANY(ARRAY(
            SELECT id FROM meanwhile_job WHERE queue = 'default' AND executor = %s AND state = 2 AND NOT suspect
            ORDER BY rank, id LIMIT %s FOR UPDATE SKIP LOCKED))
        RETURNING id, task, arguments"""
    _FINISH = f"""
        UPDATE meanwhile_job SET
            state = 4, last_worker_id = worker_id, worker_id = NULL, finished_at = {_NOW}, result = %s
        WHERE id = ANY(%s)"""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection
        self._like: Row = ()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        cursor = self._connection.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def rows(self, number: int) -> list[Row]:
        self._like = self._like or _like(self)
        return [(uuid7(), *self._like) for _ in range(number)]

    def insert(self, row: Row) -> None:
        self._connection.execute(self._INSERT, row)

    def insert_many(self, rows: list[Row]) -> None:
        self._connection.execute(self._INSERT_MANY, [list(column) for column in zip(*rows, strict=True)])

    def claim(self, worker_id: UUID, executor: str, limit: int) -> list[Row]:
        return self._connection.execute(self._CLAIM, (worker_id, executor, limit)).fetchall()

    def finish(self, claimed: list[Row], result: str) -> None:
        self._connection.execute(self._FINISH, (result, [row[0] for row in claimed]))

    def close(self) -> None:
        self._connection.close()


def _like(raw: Raw) -> Row:
    """Return what a row of ours holds that ``enqueue`` has written: the bare driver writes the same."""
    from tests.project.tasks import nothing

    job_id = UUID(nothing.enqueue().id)
    key = job_id.hex if isinstance(raw, RawSQLite) else job_id
    (row,) = raw.execute(f"SELECT {', '.join(COPIED)} FROM meanwhile_job WHERE id = %s", (key,))
    raw.execute("DELETE FROM meanwhile_job WHERE id = %s", (key,))
    return row
