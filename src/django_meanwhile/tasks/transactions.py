"""Which transactions are open in this thread, what would commit apart from one, and what waits for a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections, transaction

from ..core.errors import TransactionMismatch


def is_inside(connection: Any) -> bool:
    """Whether ``atomic()`` is open on this connection. ``TestCase``'s own wrappers do not count."""
    return any(not _is_of_a_test(block) for block in _blocks(connection))


def is_inside_a_test(connection: Any) -> bool:
    """Whether ``TestCase`` has wrapped a transaction around what this connection does."""
    return any(_is_of_a_test(block) for block in _blocks(connection))


def _blocks(connection: Any) -> Iterable[Any]:
    return getattr(connection, "atomic_blocks", ())


def _is_of_a_test(block: Any) -> bool:
    return bool(getattr(block, "_from_testcase", False))


def after_commit(alias: str, function: Callable[..., object], *args: Any) -> None:
    """Call ``function(*args)`` once the open transaction on ``alias`` is committed; at once without one.

    Whatever it raises is logged by Django and goes no further: the commit stands.
    """

    # Not a partial: up to Django 6.0 the robust on_commit() reads __qualname__ of a
    # callback that raised, which a partial lacks, and the caller of commit got that error.
    def callback() -> None:
        function(*args)

    transaction.on_commit(callback, using=alias, robust=True)


def refuse_mismatch(task: str, backend: str, alias: str) -> None:
    """Raise ``TransactionMismatch`` if another database is inside ``atomic()`` and ``alias`` is not.

    The job would be visible to workers before the caller's data, and would stay if
    that is rolled back.
    """
    if is_inside(connections[alias]):
        return
    for connection in connections.all(initialized_only=True):
        if connection.alias != alias and is_inside(connection):
            other = connection.alias
            raise TransactionMismatch(
                f"{task}: enqueue() inside atomic() on database {other!r}, but its jobs are kept in "
                f"{alias!r} (backend {backend!r}): the job could start before your data is committed, "
                "and would stay if that is rolled back. Enqueue after the block; or through a backend "
                f'on the same database: TASKS["{other}"] = {{"BACKEND": '
                f'"django_meanwhile.backends.DatabaseBackend", "OPTIONS": {{"DATABASE": "{other}"}}}} '
                f'and .using(backend="{other}"); or, if the job may go its own way, '
                ".using(outside_transaction=True)."
            )
