"""A body inside the test's transaction, as if it had a connection of its own.

A worker runs bodies in autocommit. Inside ``TestCase`` there is a transaction around everything; what would differ
is made up for here:

* a database error of the body must not break the test's transaction: a savepoint is put around each body;
* ``on_commit()`` callbacks that the body registered run when it has ended, since in a worker they would have run.

One thing stays different: on PostgreSQL a database error undoes what the same body has written before it.
Outside of transactions only what a body leaves open is rolled back, as in a worker. Called by ``inline``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connections

from .. import logs

logger = logs.get_logger("jobs")


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a connection was before the body."""

    connection: Any
    savepoint: str | None
    callbacks: int


class Enclosure:
    """Made before a body, closed after it, in the same thread."""

    def __init__(self) -> None:
        # Not atomic(): that would forbid atomic(durable=True) inside, which TestCase allows, and be taken
        # for a transaction of the caller's by enqueue().
        self._marks = [
            _Mark(connection, connection.savepoint(), len(connection.run_on_commit))
            for connection in connections.all(initialized_only=True)
            if connection.in_atomic_block
        ]

    def close(self) -> BaseException | None:
        """Keep what the body wrote, run its callbacks; return what one of them raised, as the body would have."""
        enclosed = {mark.connection for mark in self._marks}
        for connection in connections.all(initialized_only=True):
            if connection not in enclosed and not (connection.connection is None or connection.in_atomic_block):
                _close_open_transaction(connection)
        errors = [error for mark in self._marks if (error := _settle(mark)) is not None]
        return errors[0] if errors else None


def _close_open_transaction(connection: Any) -> None:
    """Roll back what a body has begun by ``set_autocommit(False)``. The connection is the test's, so it is kept."""
    wanted = connection.settings_dict["AUTOCOMMIT"]
    if connection.get_autocommit() != wanted:
        logger.warning("a job left a transaction open on database %r; it was rolled back", connection.alias)
        connection.rollback()
        connection.set_autocommit(wanted)


def _settle(mark: _Mark) -> BaseException | None:
    connection = mark.connection
    if _release(mark):
        return _run_callbacks(mark)
    connection.needs_rollback = False  # it forbids every statement, a rollback to a savepoint included
    connection.savepoint_rollback(mark.savepoint)
    del connection.run_on_commit[mark.callbacks :]
    return None


def _release(mark: _Mark) -> bool:
    """Keep the body's changes; False if the database has already given them up."""
    if mark.connection.needs_rollback:
        return False
    try:
        mark.connection.savepoint_commit(mark.savepoint)
    except DatabaseError:
        return False
    return True


def _run_callbacks(mark: _Mark) -> BaseException | None:
    pending = mark.connection.run_on_commit
    while len(pending) > mark.callbacks:
        _, function, robust = pending.pop(mark.callbacks)
        try:
            function()
        except Exception as error:
            if not robust:
                return error
            logger.exception("an on_commit() callback of a job raised")
    return None
