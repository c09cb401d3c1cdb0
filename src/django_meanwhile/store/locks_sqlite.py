"""A row with a lease and a fence, for SQLite, which has no locks that outlive a transaction.

Made by ``locks``; ``concurrent.locks.keeper`` renews what is held. Each rule stands in the
guard of the statement that writes:

* taken only if it is free, or if its lease is over **and** somebody has doubted the holder
  for a third of a lease. The doubt is a write too: while nobody can write, no lease can be
  renewed, and nobody is judged for that. A renewal clears the doubt.
* renewed and given back only by its own fence. A lease that ran out while nobody else
  came is renewed like any other: nothing was lost.

"database is locked" is never an answer, only a reason to ask again. What waits asks with a
SELECT, which takes no lock, and writes when there is something to write.
"""

# ruff: noqa: D102 - what a grip promises is said once, in ``locks``

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

from django.db import Error, OperationalError

from ..conf import get_settings, real_clock
from ..core.holder import Holder
from ..core.text import storable
from ..fields import parse_utc
from ..logs import get_logger
from ..models import Lock
from . import get_store
from .locks import Grip, Lost, host_name, private_connection
from .rows import Row
from .sqlite import GAPS
from .statements import fill

logger = get_logger("store")

BUSY_TIMEOUT = 1.0
"""Seconds that one statement waits for another writer; then it is sent again."""

PATIENCE = 10.0
"""Seconds that a writer may keep us waiting beyond the caller's own timeout: it says nothing about the lock."""

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two looks at a row that somebody holds."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_MASK = 0xFF  # the other bits of an error's code say more than we ask


def _fill(text: str) -> str:
    table = Lock._meta.db_table  # noqa: SLF001 - Django's documented way to a table's name
    return fill(text, GAPS, lock_row=table, a_third_ago=GAPS.earlier_once.replace("%(seconds)s", "%(third)s"))


# Overdue: the holder has missed a renewal, and the next one is due.
_LOOK = _fill("""
    SELECT until IS NULL, until < {later} AND doubted_at IS NULL, until < {now}
    FROM {lock_row} WHERE name = %(name)s""")

_DOUBT = _fill("""
    UPDATE {lock_row} SET doubted_at = {now}
    WHERE name = %(name)s AND until < {later} AND doubted_at IS NULL""")

_TAKE = _fill("""
    INSERT INTO {lock_row} (name, fence, host, pid, thread, since, until, doubted_at)
    VALUES (%(name)s, 1, %(host)s, %(pid)s, %(thread)s, {now}, {later}, NULL)
    ON CONFLICT (name) DO UPDATE SET
        fence = fence + 1, host = excluded.host, pid = excluded.pid, thread = excluded.thread,
        since = excluded.since, until = excluded.until, doubted_at = NULL
    WHERE until IS NULL OR (until < {now} AND doubted_at < {a_third_ago})
    RETURNING fence""")

_RENEW = _fill("""
    UPDATE {lock_row} SET until = {later}, doubted_at = NULL
    WHERE until IS NOT NULL AND (name, fence) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(%(held)s))
    RETURNING name, fence""")

_RELEASE = _fill("""
    UPDATE {lock_row} SET until = NULL, doubted_at = NULL
    WHERE name = %(name)s AND fence = %(fence)s AND until IS NOT NULL
    RETURNING fence""")

_HOLDER = _fill("""
    SELECT host, pid, thread, since, fence FROM {lock_row} WHERE name = %(name)s AND until IS NOT NULL""")


class RowGrip(Grip):
    """See the module. ``_using`` guards the connection."""

    def __init__(self, alias: str, name: str) -> None:
        super().__init__(alias, name)
        self.lease = get_settings().lease
        self._clock = real_clock()
        self._using = threading.Lock()
        self._rows = Rows(alias)

    def take(self, seconds: float | None, thread: str) -> bool:
        began = self._clock.monotonic()
        pause = FIRST_PAUSE
        with self._using:
            try:
                while not self.interrupted.is_set():
                    waited = self._clock.monotonic() - began
                    answer = self._try(thread)
                    if answer:
                        return True
                    # A writer that keeps everybody out is no holder: even a single try waits for it.
                    if seconds is not None and waited >= (max(seconds, PATIENCE) if answer is None else seconds):
                        return False
                    left = pause if seconds is None or answer is None else min(pause, max(0.0, seconds - waited))
                    self.interrupted.wait(left)
                    pause = min(1.5 * pause, LONGEST_PAUSE)
            except BaseException:
                self._rows.close()
                raise
        return False

    def _try(self, thread: str) -> bool | None:
        """Take it if that may be; None: another writer gave us no answer."""
        try:
            return self._take(thread)
        except OperationalError as error:
            if _is_busy(error):
                return None
            raise

    def _take(self, thread: str) -> bool:
        third = self.lease / 3
        found = self._rows.run(_LOOK, name=self.name, seconds=third)
        is_free, is_overdue, is_over = found[0] if found else (True, False, False)
        if is_overdue:
            self._rows.run(_DOUBT, name=self.name, seconds=third)
        elif is_free or is_over:
            taken = self._rows.run(
                _TAKE,
                name=self.name,
                host=host_name(),
                pid=os.getpid(),
                thread=storable(thread)[:255],
                seconds=self.lease,
                third=third,
            )
            if taken:
                self.fence = taken[0][0]
                return True
        return False

    def interrupt(self) -> None:
        self.interrupted.set()
        with self._using:
            pass

    def loss(self) -> str | None:
        with self._using:
            try:
                found = self._rows.run(_HOLDER, name=self.name)
            except OperationalError as error:
                if _is_busy(error):  # whoever writes writes another row, or waits for us to lose this one
                    return None
                return f"its row cannot be read: {error}"
            return None if found and found[0][4] == self.fence else _taken_by(found)

    def release(self, *, patient: bool) -> None:
        """While others write, the row is ours as long as its lease, so we ask for as long."""
        until = self._clock.monotonic() + (self.lease if patient else 0.0)
        with self._using:
            while True:
                try:
                    if self._rows.run(_RELEASE, name=self.name, fence=self.fence):
                        return
                    break
                except Error as error:
                    if not _is_busy(error):
                        raise Lost(f"its row cannot be written: {error}") from error
                    if self._clock.monotonic() > until:
                        logger.warning("lock %r could not be given back, and ends with its lease: %s", self.name, error)
                        return
            raise Lost(_taken_by(self._rows.run(_HOLDER, name=self.name)))

    def holder(self) -> Holder | None:
        with self._using:
            found = self._rows.run(_HOLDER, name=self.name)
        return _holder_of(found[0]) if found else None

    def close(self) -> None:
        with self._using:
            self._rows.close()


class Rows:
    """A connection for the statements of this module. One thread at a time."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        options = {**get_store(alias).connection_options(), "timeout": BUSY_TIMEOUT}
        self._connection = private_connection(alias, options)

    def run(self, statement: str, **parameters: Any) -> list[Row]:
        """Run one statement in autocommit, also where a loop runs in this thread. Raises Django's errors."""
        wrapper = self._connection
        if wrapper.connection is None:
            wrapper.ensure_connection()
        with wrapper.wrap_database_errors:
            cursor = wrapper.create_cursor()
            try:
                cursor.execute(statement, {"offset": 0.0, **parameters})
                return cursor.fetchall() if cursor.description else []
            finally:
                cursor.close()

    def renew(self, held: Iterable[tuple[str, int]], lease: float) -> set[tuple[str, int]] | None:
        """Renew the leases of these names and fences; return those that are still held. None: not now."""
        try:
            found = self.run(_RENEW, held=json.dumps(list(held)), seconds=lease)
        except OperationalError as error:
            if _is_busy(error):
                return None
            raise
        return {(row[0], row[1]) for row in found}

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        raw, self._connection.connection = self._connection.connection, None
        if raw is not None:
            raw.close()


def _is_busy(error: BaseException) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return code is not None and code & _MASK in _BUSY


def _holder_of(row: Row) -> Holder:
    return Holder(host=row[0], pid=row[1], thread=row[2], since=parse_utc(row[3]))


def _taken_by(found: list[Row]) -> str:
    if not found:
        return "its lease ran out, and it was taken and given back by somebody else"
    return f"its lease ran out, and it was taken by somebody else: {_holder_of(found[0])}"
