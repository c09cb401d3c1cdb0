"""Threads that end with an open connection, or inside a transaction.

A thread's own values die with it, in the thread itself: ``_End`` is one of them, and its finalizer looks at what the
thread has left open. By then ``join()`` has not returned yet, so whoever waits for the thread finds its connection
given back. The main thread is not watched, nor is anything once it has ended: the process takes all with it.

Not told: a connection of a WSGI server's thread that ``CONN_MAX_AGE`` keeps; it is closed without a word.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.signals import request_started
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .. import logs
from .findings import Stack, count, later, text
from .forks import keep_for_ever
from .openings import Opening, in_transaction, is_open, my_ledger

logger = logs.get_logger("guard")

_UID = "django_meanwhile.guard.threads"


class _Watch(threading.local):
    end: _End | None = None


class _Settings:
    repairs = False


_watch = _Watch()


def start(*, repairs: bool) -> None:
    """Watch every thread that connects from now on."""
    _Settings.repairs = repairs
    connection_created.connect(_connected, dispatch_uid=_UID)
    request_started.connect(_requested, dispatch_uid=_UID)


def stop() -> None:
    """Watch none any more. Idempotent."""
    connection_created.disconnect(dispatch_uid=_UID)
    request_started.disconnect(dispatch_uid=_UID)
    _End.generation += 1


def _requested(**given: Any) -> None:
    my_ledger().serves = "environ" in given


def _connected(**_: Any) -> None:
    thread = threading.current_thread()
    end = _watch.end
    if thread is not threading.main_thread() and (end is None or not end.is_in_force()):
        _watch.end = _End(thread)


class _End:
    """Dies with its thread. Holds what the thread has opened: that may be finalized in any order."""

    generation = 0

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.ident = threading.get_ident()
        self.process = os.getpid()
        self.generation = _End.generation
        self.ledger = my_ledger()

    def is_in_force(self) -> bool:
        """Whether the guard is still the one that made it."""
        return self.generation == _End.generation

    def __del__(self) -> None:
        left = [opening for opening in self.ledger.opened.values() if is_open(opening.connection)]
        is_mine = self.ident == threading.get_ident()
        if self.process != os.getpid():
            if not is_mine:  # a thread of the parent; ``forks`` sees to what is this one's
                keep_for_ever(left)
        elif left and is_mine and self.is_in_force() and not _process_ends():
            with _registered(self.thread):
                for opening in left:
                    _look(opening, self.thread.name, serves=self.ledger.serves)


def _process_ends() -> bool:
    """Whether the main thread has ended, or waits for the others to end, executors' threads included."""
    main = threading.main_thread()
    frame = sys._current_frames().get(main.ident or 0)  # noqa: SLF001 - documented
    while frame is not None:
        if frame.f_code.co_name == "_shutdown" and frame.f_code.co_filename == threading.__file__:
            return True
        frame = frame.f_back
    return not main.is_alive()


@contextmanager
def _registered(thread: threading.Thread) -> Iterator[None]:
    """Have ``current_thread()`` find the thread that has ended, whose identity is still the caller's.

    What logs in here, psycopg's pool for one, would else make a dummy of it that nobody removes.
    """
    active: dict[int, threading.Thread] = getattr(threading, "_active", {})
    active[threading.get_ident()] = thread
    try:
        yield
    finally:
        active.pop(threading.get_ident(), None)


def _look(opening: Opening, thread: str, *, serves: bool) -> None:
    connection = opening.connection
    if connection.allow_thread_sharing:  # somebody has arranged that it outlives its thread
        return
    inside = in_transaction(connection)
    is_kept = serves and not inside and connection.settings_dict["CONN_MAX_AGE"] != 0
    done = _mend(connection) if _Settings.repairs else ""
    number = None if is_kept else count(("thread", inside, connection.alias, opening.stack, opening.target))
    if number is not None:
        tell = _tell_transaction if inside else _tell_connection
        later(partial(tell, thread, connection.alias, partial(_lines, opening.stack, opening.target), done, number))


def _mend(connection: BaseDatabaseWrapper) -> str:
    inside = in_transaction(connection)
    try:
        if inside:
            with connection.wrap_database_errors:
                connection.connection.rollback()
        connection.close()
    except Error as error:
        return f"closing it failed: {error}"
    return "it was rolled back and closed" if inside else "it was closed"


def _lines(stack: Stack, target: str) -> str:
    """Return the stack, and what the thread was to call: the stack may be of Python's threads alone."""
    return f"{text(stack)}\n  The thread was to call {target}" if target else text(stack)


def _tell_connection(thread: str, alias: str, lines: Callable[[], str], done: str, number: int) -> None:
    logger.warning(
        "thread %r ended with an open connection to database %r: %s (time %d at this place). It was opened by:",
        thread, alias,
        done or "call connections.close_all() last, or use django_meanwhile.concurrent", number,
        extra={"lines": lines()},
    )  # fmt: skip


def _tell_transaction(thread: str, alias: str, lines: Callable[[], str], done: str, number: int) -> None:
    logger.warning(
        "thread %r ended inside a transaction on database %r: %s (time %d at this place). It was opened by:",
        thread, alias,
        done or "leave atomic() first, and close the connection", number,
        extra={"lines": lines()},
    )  # fmt: skip
