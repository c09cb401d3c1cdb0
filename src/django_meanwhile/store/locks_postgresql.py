"""An advisory lock of PostgreSQL, held by a transaction that is kept open on a connection of its own.

Made by ``locks``. Why a transaction's lock and not a session's: behind a pooler in
transaction mode the session belongs to somebody else after each statement; a transaction
has its server's connection to itself until it ends. The server frees the lock as soon as
the connection is gone, whatever became of the process.

The transaction stays open for as long as the lock is held, and must be no burden: READ
COMMITTED, so that no snapshot outlives a statement, and without a transaction id, so that
vacuum passes it by. The fence is the next value of a sequence; PostgreSQL gives a
transaction an id for one such call out of 32 (and the first after a checkpoint), as these
are written to its log: then the lock is given back and taken again. That a statement that
waits has a snapshot cannot be helped, but it waits for ``LONGEST_WAIT`` at most and then
begins again, at the end of the server's line.
"""

# ruff: noqa: D102 - what a grip promises is said once, in ``locks``

from __future__ import annotations

import hashlib
import os
import re
import select
import threading
from contextlib import suppress
from typing import Any

from django.db import DatabaseError

from ..conf import real_clock
from ..core.holder import Holder
from ..fields import parse_utc
from . import get_store
from .locks import FENCES, Grip, Lost, host_name, private_connection

NAMESPACE = "django_meanwhile.lock:"
"""Stands before a lock's name where its key is made."""

LONGEST_WAIT = 60.0
"""Seconds. A statement that waits keeps vacuum from removing what died since it began."""

CANCEL_EVERY = 0.05
"""Seconds between requests to cancel: one that comes between two statements is without effect."""

_LONGEST_NAME = 63
_TRANSACTION_TIMEOUT_SINCE = 170000
_NOT_FREE = "55P03"
_CANCELLED = "57014"
_IN_TRANSACTION = 2

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_SET = """
    SELECT set_config('idle_in_transaction_session_timeout', '0', true),
        set_config('statement_timeout', '0', true),
        set_config('lock_timeout', %s, true),
        set_config('application_name', %s, true),
        set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
_SET_17 = f"{_SET}, set_config('transaction_timeout', '0', true)"
_TAKE = "SELECT pg_advisory_xact_lock(%s::bigint)"
_TRY = "SELECT pg_try_advisory_xact_lock(%s::bigint)"
_FENCE = f"SELECT n, txid_current_if_assigned() FROM nextval('{FENCES}') AS n"  # noqa: S608 - a constant
_HOLDER = """
    SELECT a.application_name, a.client_addr::text, a.state_change AT TIME ZONE 'UTC'
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.pid <> pg_backend_pid()"""

_NAMED = re.compile(r"meanwhile lock (\d+) (\S+) (.*)")


def key_of(name: str) -> int:
    """Return the key of the advisory lock: the first eight bytes of a SHA-256, as a signed number."""
    digest = hashlib.sha256((NAMESPACE + name).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class AdvisoryGrip(Grip):
    """See the module.

    ``_using`` guards the connection while the lock is held: ``loss`` may come from any thread.
    """

    def __init__(self, alias: str, name: str) -> None:
        super().__init__(alias, name)
        self._key = key_of(name)
        self._clock = real_clock()
        self._using = threading.Lock()
        self._taking = threading.Lock()  # held while take() runs
        # Reads the settings alone; the connection itself is made by the first statement.
        self._connection = private_connection(alias, get_store(alias).connection_options())

    def take(self, seconds: float | None, thread: str) -> bool:
        until = None if seconds is None else self._clock.monotonic() + seconds
        with self._taking:
            try:
                return self._take_until(until, thread)
            except BaseException:
                self.close()
                raise

    def _take_until(self, until: float | None, thread: str) -> bool:
        while not self.interrupted.is_set():
            left = LONGEST_WAIT if until is None else min(LONGEST_WAIT, until - self._clock.monotonic())
            # Through Django's wrapper: it connects, and its errors are Django's.
            with self._connection.cursor() as cursor:
                if self._take_once(cursor, max(0.0, left), thread):
                    return True
            if left <= 0:
                break
        return False

    def _take_once(self, cursor: Any, seconds: float, thread: str) -> bool:
        """Wait in transactions of ``cursor``; return whether the lock and a fence are ours, in one that is open."""
        while True:
            cursor.execute(_BEGIN)
            statement = _SET_17 if self._connection.pg_version >= _TRANSACTION_TIMEOUT_SINCE else _SET
            cursor.execute(statement, [str(max(1, int(seconds * 1000))), _application_name(thread)])
            if not self._wait(cursor, seconds):
                cursor.execute("ROLLBACK")
                return False
            cursor.execute(_FENCE)
            fence, has_id = cursor.fetchone()
            if has_id is None:
                self.fence = fence
                return True
            # The commit also makes sure that the sequence cannot go back after a crash.
            cursor.execute("COMMIT")

    def _wait(self, cursor: Any, seconds: float) -> bool:
        if not seconds:
            cursor.execute(_TRY, [self._key])
            return bool(cursor.fetchone()[0])
        try:
            cursor.execute(_TAKE, [self._key])
        except DatabaseError as error:
            state = _state_of(error)
            if state != _NOT_FREE and not (state == _CANCELLED and self.interrupted.is_set()):
                raise
            return False
        return True

    def interrupt(self) -> None:
        self.interrupted.set()
        while not self._taking.acquire(timeout=CANCEL_EVERY):
            raw = self._connection.connection
            if raw is not None:
                # psycopg 3.2 and newer encrypt the request as the connection is; the others have the old way alone.
                # It fails if the connection is closed meanwhile: then take() has ended, or does so now.
                with suppress(self._connection.Database.Error):
                    getattr(raw, "cancel_safe", raw.cancel)()
        self._taking.release()

    def loss(self) -> str | None:
        with self._using:
            raw = self._connection.connection
            if raw is None or raw.closed:
                return "its connection is closed"
            if not _has_news(raw):
                return None
            # A notice, or the end of the connection: asking tells which.
            try:
                with raw.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except self._connection.Database.Error as error:
                return _one_line(error)
            return None if raw.info.transaction_status == _IN_TRANSACTION else "its transaction has ended"

    def release(self, *, patient: bool) -> None:  # noqa: ARG002 - nobody is waited for
        with self._using:
            raw = self._connection.connection
            if raw is None or raw.closed:
                raise Lost("its connection is closed")
            try:
                with raw.cursor() as cursor:
                    cursor.execute("COMMIT")
                    ended = cursor.statusmessage
            except self._connection.Database.Error as error:
                self._close()
                raise Lost(_one_line(error)) from error
            if ended != "COMMIT":  # of a transaction that has failed: the lock was freed when it did
                raise Lost("its transaction had failed")

    def holder(self) -> Holder | None:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(_HOLDER, [(self._key >> 32) & 0xFFFFFFFF, self._key & 0xFFFFFFFF])
                row = cursor.fetchone()
        except BaseException:
            self.close()
            raise
        if row is None:
            return None
        name, address, since = row[0] or "", row[1], row[2] and parse_utc(row[2])
        if told := _NAMED.match(name):
            return Holder(pid=int(told[1]), host=told[2], thread=told[3], since=since)
        return Holder(host=address, thread=name or None, since=since)

    def close(self) -> None:
        with self._using:
            self._close()

    def _close(self) -> None:
        raw, self._connection.connection = self._connection.connection, None
        if raw is not None:
            raw.close()

    def forget(self) -> None:
        """Point the child's copy of the socket elsewhere: else the server would take a dead parent for living."""
        raw = self._connection.connection
        if raw is not None and not raw.closed:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, raw.fileno(), inheritable=False)
            os.close(nowhere)


def _application_name(thread: str) -> str:
    """Say in 63 bytes of ASCII who waits or holds: what ``holder`` and people read in ``pg_stat_activity``."""
    text = f"meanwhile lock {os.getpid()} {host_name()[:30]} {thread}"
    return text.encode("ascii", "replace").decode()[:_LONGEST_NAME]


def _state_of(error: BaseException) -> str | None:
    """Return SQLSTATE: psycopg 3 and psycopg2 name it differently."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _has_news(raw: Any) -> bool:
    """Say whether the server, or the network, has something to tell that nobody has read. Does not wait."""
    if not hasattr(select, "poll"):
        return bool(select.select([raw.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
