"""The connections of one thread of ours: within the budget, warm between calls, clean after each, interruptible.

Owned by ``thread``. It watches the thread's own connection objects of Django, by attributes of
these very objects: ``connect()`` first asks the ``budget``, ``close()`` gives back, and
``ensure_connection()`` begins no query for a call that was stopped.

Between calls a connection stays open, whatever ``CONN_MAX_AGE`` of zero says, until the thread
has been idle for long, or another one waits for it; it is checked at the first query of the next
call. Not with Django's psycopg pool, whose slot goes back after each call; and not in a test
environment, whose databases nobody could drop.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import CancelledError
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import logs
from ...connections import discard, has_left_a_transaction, is_pooled, is_tested
from . import budget
from .held import Lock

if TYPE_CHECKING:
    from .thread import Thread

logger = logs.get_logger("concurrent")

CANCEL_TIMEOUT = 5.0
"""Seconds for the server to take the request to interrupt a query."""


class Named(Protocol):
    """A call, for messages."""

    @property
    def name(self) -> str:
        """The path of its function."""


class Connections:
    """For the thread alone, but for ``interrupt()``.

    ``lock`` is the thread's; it is held while a connection is closed and while one is interrupted.
    ``_watched`` is replaced, never changed, so that an interruption may read it.
    """

    def __init__(self, thread: Thread, lock: Lock) -> None:
        self._thread = thread
        self._lock = lock
        self._watched: dict[str, BaseDatabaseWrapper] = {}
        self._held: set[str] = set()  # places in the budget
        self._used: set[str] = set()  # by the calls that run
        self._hit: set[str] = set()  # interrupted since the last call; guarded by lock

    # --- around calls ---------------------------------------------------------------------

    def before(self) -> None:
        """Do what Django does when a request begins, but for what ``after()`` has seen to when the last call ended."""
        if self._watched.keys() != connections.settings.keys():
            self._watch()
        for connection in self._watched.values():
            if connection.connection is not None:
                connection.health_check_done = False  # type: ignore[attr-defined] # by the first query
                if connection.close_at is not None and monotonic() >= connection.close_at:
                    connection.close()

    def take_hit(self) -> Collection[str]:
        """Return which were interrupted since this was called last. Called under the lock."""
        if not self._hit:
            return ()
        hit, self._hit = self._hit, set()
        return hit

    def after(self, named: Named, hit: Collection[str], *, is_last: bool) -> None:
        """Leave nothing open of a call, nor what was ``hit``. ``is_last``: the thread runs no other call around it."""
        if self._watched.keys() != connections.settings.keys():
            self._watch()
        for alias, connection in self._watched.items():
            if is_last:
                connection.queries_log.clear()
            if connection.connection is None and not connection.in_atomic_block:
                self._release(alias)
                continue
            if connection.allow_thread_sharing:  # somebody else's, who gave it to this thread
                continue
            try:
                self._tidy(connection, named, is_last=is_last, is_hit=alias in hit, is_used=alias in self._used)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises, the thread goes on with another connection
                logger.warning("%s: a connection to database %r is thrown away: %s", named.name, alias, error)
                self._discard(connection)
        if is_last:
            self._used.clear()
        else:
            self._watch()  # for the call around it: in place of what was thrown away

    def _tidy(
        self, connection: BaseDatabaseWrapper, named: Named, *, is_last: bool, is_hit: bool, is_used: bool
    ) -> None:
        if is_hit:
            self._discard(connection)
        elif has_left_a_transaction(connection):
            logger.warning(
                "%s left a transaction open on database %r; it was rolled back", named.name, connection.alias
            )
            self._discard(connection)
        elif not is_last:
            return
        elif (is_used and (is_pooled(connection) or is_tested())) or budget.is_wanted(connection.alias):
            connection.close()
        elif connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()

    def is_wanted(self) -> bool:
        """Whether somebody waits for a connection that is kept here."""
        return any(budget.is_wanted(alias) for alias in self._held)

    def is_in_transaction(self) -> bool:
        """Whether ``atomic()`` is open on one of the connections."""
        return any(
            connection.in_atomic_block or (connection.connection is not None and has_left_a_transaction(connection))
            for connection in self._watched.values()
        )

    def close(self) -> None:
        """Close all connections and give their places back."""
        # Those that are watched, and those that somebody has put in their places.
        for connection in {*self._watched.values(), *connections.all(initialized_only=True)}:
            if not connection.allow_thread_sharing:
                self._discard(connection)
        for alias in list(self._held):
            self._release(alias)
        self._watched = {}

    # --- from another thread ----------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt what runs on the connections. Called under the lock, so none is closed or changes hands."""
        for alias, connection in self._watched.items():
            raw = connection.connection
            if raw is None or connection.allow_thread_sharing:
                continue
            # A request to interrupt that comes late hits the next query, and SQLite's every one while a cursor of this
            # one is left: the connection is given up. But a database in memory would be lost.
            if connection.vendor != "sqlite" or not connection.is_in_memory_db():  # type: ignore[attr-defined]
                self._hit.add(alias)
            try:
                _interrupt(raw)
            except Exception as error:  # noqa: BLE001 - the server is gone, say: then the query ends by itself
                logger.warning("a query on database %r cannot be interrupted: %s", alias, error)

    # --- the watched objects ----------------------------------------------------------------

    def _watch(self) -> None:
        watched = {}
        for alias in connections.settings:
            connection = self._watched.get(alias)
            if connection is None:
                try:
                    connection = connections[alias]
                except Exception as error:  # noqa: BLE001 - ImproperlyConfigured, or what the import of its backend raises
                    logger.debug("database %r is not watched: %s", alias, error)
                    continue
                vars(connection).update(
                    connect=partial(self._connect, connection),
                    close=partial(self._close, connection),
                    ensure_connection=partial(self._ensure, connection),
                )
            watched[alias] = connection
        for alias, connection in self._watched.items():
            if alias not in watched:  # the settings do not have it any more
                self._discard(connection)
        self._watched = watched

    def _connect(self, connection: BaseDatabaseWrapper) -> None:
        alias = connection.alias
        if alias not in self._held:
            budget.acquire(alias, self._thread)
            self._held.add(alias)
        try:
            type(connection).connect(connection)
            self._refuse_if_stopped()
        except BaseException:
            self._close(connection)
            raise
        if not is_pooled(connection):
            connection.health_check_enabled = True  # type: ignore[attr-defined]
            if connection.settings_dict["CONN_MAX_AGE"] == 0:
                connection.close_at = None

    def _ensure(self, connection: BaseDatabaseWrapper) -> None:
        self._refuse_if_stopped()
        self._used.add(connection.alias)
        type(connection).ensure_connection(connection)

    def _refuse_if_stopped(self) -> None:
        if self._thread.is_stopped:
            raise CancelledError("this call was stopped, so that it begins no other query")

    def _close(self, connection: BaseDatabaseWrapper) -> None:
        with self._lock:
            type(connection).close(connection)
        if connection.connection is None:
            self._release(connection.alias)

    def _discard(self, connection: BaseDatabaseWrapper) -> None:
        with self._lock:
            discard(connection)
            self._watched = {alias: other for alias, other in self._watched.items() if other is not connection}
        self._release(connection.alias)

    def _release(self, alias: str) -> None:
        if alias in self._held:
            self._held.discard(alias)
            budget.release(alias, self._thread)

    # --- fork -------------------------------------------------------------------------------

    def after_fork_in_child(self, lock: Lock) -> None:
        """Let go of the connections without closing them: they are the parent's."""
        self._lock = lock
        self._held = set()
        for connection in self._watched.values():
            _INHERITED.append(connection.connection)
            connection.connection = None


_INHERITED: list[object] = []
"""The parent's connections, in a forked child: never closed, which would say good-bye in the parent's name."""


def _interrupt(raw: object) -> None:
    if hasattr(raw, "cancel_safe"):  # psycopg 3.2
        raw.cancel_safe(timeout=CANCEL_TIMEOUT)
    elif hasattr(raw, "interrupt"):  # sqlite3
        raw.interrupt()
    elif hasattr(raw, "cancel"):  # psycopg 3.1, psycopg2, oracledb
        raw.cancel()
