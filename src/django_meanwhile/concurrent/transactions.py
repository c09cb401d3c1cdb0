"""What parallel code must know of the caller's transactions: refuse inside ``atomic()``, run at once inside a test.

Called by everything here that would run code elsewhere, once per call of the user's, in
the user's thread. It opens no connection and sends no query.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from django.db import connections

from ..core.errors import InsideTransaction
from ..tasks.transactions import is_inside, is_inside_a_test


class Words(NamedTuple):
    """What ``InsideTransaction`` says: why not, and the two ways out."""

    reason: str
    move: str
    allow: str


ELSEWHERE: Final = Words(
    "code in another thread has a connection of its own, so it would neither see what this transaction has written "
    "nor be rolled back with it",
    "Move the call out of the atomic() block",
    "if it needs nothing of the transaction, pass outside_transaction=True",
)
SUBMITTED: Final = ELSEWHERE._replace(
    allow="if it needs nothing of the transaction, take default_executor(outside_transaction=True), or "
    "ThreadPoolExecutor(..., outside_transaction=True)"
)


def refuse_inside_transaction(what: str, *, outside_transaction: bool = False, words: Words = ELSEWHERE) -> None:
    """Raise ``InsideTransaction`` if ``atomic()`` is open in the calling thread, on any database.

    ``what`` begins the message: "parallel()", "submit() of shop.views.load". ``TestCase``'s own
    wrappers do not count. With ``outside_transaction`` the caller has said that it knows.
    """
    if outside_transaction:
        return
    for connection in connections.all(initialized_only=True):
        if is_inside(connection):
            where = " (ATOMIC_REQUESTS is set)" if connection.settings_dict.get("ATOMIC_REQUESTS") else ""
            raise InsideTransaction(
                f"{what} inside atomic() on database {connection.alias!r}{where}: {words.reason}. {words.move} (a view "
                f"under ATOMIC_REQUESTS: decorate it with @transaction.non_atomic_requests); or, {words.allow}."
            )


def runs_inline_or_refuse(what: str, *, outside_transaction: bool = False, words: Words = ELSEWHERE) -> bool:
    """Do as ``refuse_inside_transaction()``, then answer ``runs_inline()``. Cheap where no transaction is open."""
    if not is_inside_any():
        return False
    refuse_inside_transaction(what, outside_transaction=outside_transaction, words=words)
    return runs_inline()


def is_inside_any() -> bool:
    """Whether a transaction is open in the calling thread, on any database."""
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def runs_inline() -> bool:
    """Whether ``TestCase`` holds a transaction open in the calling thread.

    Then parallel code runs at once, in the caller's thread, on the test's own connection and
    in order: no other connection could see the test's data.
    """
    return any(is_inside_a_test(connection) for connection in connections.all(initialized_only=True))
