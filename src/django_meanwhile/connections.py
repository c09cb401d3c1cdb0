"""Database connections of threads that are ours: kept warm, never leaked, always clean.

A view's connection ends with its request. A worker's thread has no request, so
the rules are its own: a healthy connection is *kept* between jobs (opening one
per job costs more than all else together), checked when the next job first uses
it, and thrown away whenever a job left anything open on it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from django.db import Error, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from . import logs

logger = logs.get_logger("connections")


def prepare_process() -> None:
    """Adapt ``DATABASES`` to a process that runs jobs. Call it before the first query.

    Drops Django's psycopg pool: each slot keeps a connection of its own, and a
    pool's slot that a dead thread holds never comes back. Keeps connections open
    (``CONN_MAX_AGE``), checked on first use by each job (``CONN_HEALTH_CHECKS``).
    """
    for alias in connections:
        database = connections.settings[alias]
        database["CONN_MAX_AGE"] = None
        database["CONN_HEALTH_CHECKS"] = True
        if "pool" in database.get("OPTIONS", {}):
            database["OPTIONS"] = {k: v for k, v in database["OPTIONS"].items() if k != "pool"}


def use_service_connection(alias: str, options: Mapping[str, object]) -> None:
    """Give the calling thread a connection of its own to ``alias``, with ``options``.

    For threads of ours that run no user code: the store's statements are right
    under READ COMMITTED only, whatever isolation the project runs its own on.
    """
    ours = dict(connections.settings[alias])
    theirs = {key: value for key, value in ours.get("OPTIONS", {}).items() if key != "pool"}
    ours["OPTIONS"] = {**theirs, **options}
    ours["CONN_MAX_AGE"] = None
    ours["CONN_HEALTH_CHECKS"] = False
    # Any wrapper that the thread may have had is closed with it, not leaked.
    connections[alias].close()
    connections[alias] = type(connections[alias])(ours, alias)


def reset_service_connection(alias: str) -> None:
    """Drop the calling thread's connection after an error; the next statement opens another."""
    connection = connections[alias]
    try:
        connection.close()
    except Error as error:
        logger.debug("closing a connection to %r: %s", alias, error)
        connection.connection = None


def close_thread_connections() -> None:
    """Close every connection of the calling thread. The last thing a thread does."""
    for connection in connections.all(initialized_only=True):
        discard(connection)


def tidy_thread_connections() -> None:
    """Leave the calling thread's connections as the next job may expect them.

    No open transaction, no broken connection, no query log. Called after each body,
    in the body's own thread.
    """
    reset_queries()
    for connection in connections.all(initialized_only=True):
        if connection.connection is None and not connection.in_atomic_block:
            continue
        try:
            dirty = connection.in_atomic_block or (
                connection.get_autocommit() != connection.settings_dict["AUTOCOMMIT"]
            )
            if not dirty:
                connection.close_if_unusable_or_obsolete()
        except Error:
            dirty = True
        if dirty:
            logger.warning(
                "a job left a transaction open on database %r; it was rolled back",
                connection.alias,
            )
            discard(connection)


def discard(connection: BaseDatabaseWrapper) -> None:
    """Close the raw connection of the calling thread and forget the wrapper.

    A wrapper that is closed inside ``atomic()`` stays broken, so it goes too. A slot of
    Django's psycopg pool goes back closed, and the pool makes another.
    """
    raw = connection.connection
    try:
        if raw is not None:
            with connection.wrap_database_errors:
                if is_pooled(connection):
                    raw.pgconn.finish()
                    raw._pool.putconn(raw)  # noqa: SLF001 - as Django does
                else:
                    raw.close()
    except Error as error:
        logger.debug("closing a connection to %r: %s", connection.alias, error)
    connection.connection = None
    if any(known is connection for known in connections.all(initialized_only=True)):
        del connections[connection.alias]


def is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether closing it gives it back to Django's psycopg pool."""
    return bool(connection.settings_dict.get("OPTIONS", {}).get("pool"))


def has_left_a_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open on an open connection, by Django's means or by plain SQL."""
    if connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    raw = connection.connection
    if hasattr(raw, "pgconn"):  # psycopg 3
        return bool(raw.pgconn.transaction_status)
    if hasattr(raw, "get_transaction_status"):  # psycopg2
        return bool(raw.get_transaction_status())
    return bool(getattr(raw, "in_transaction", False))  # sqlite3


def is_tested() -> bool:
    """Whether this process is in Django's test environment, where databases are dropped at the end."""
    # Where setup_test_environment() keeps what it has replaced. mail.outbox would not do: any mail may make one.
    return hasattr(getattr(sys.modules.get("django.test.utils"), "_TestState", None), "saved_data")
