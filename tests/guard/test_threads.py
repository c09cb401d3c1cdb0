"""Threads that end with an open connection, or inside a transaction: told once for each place, and mended."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
from django.contrib.auth.models import Group, User
from django.core.signals import request_started
from django.db import connection, connections, transaction

from django_meanwhile import guard

from .conftest import in_thread, is_closed, query

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def left_to_the_collector() -> Iterator[None]:
    """What nobody closes is the collector's to find, which complains: it is what these tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_a_thread_that_ends_with_an_open_connection_is_told(database, mode, told):
    """One warning that names the thread, the database and the line that opened it; closed by repair alone, and by
    the time that join() returns.
    """
    raws = []
    with left_to_the_collector():
        in_thread(lambda: raws.append(query(database)), name="import-rows")
        assert is_closed(raws[0]) == (mode == "repair")
        raws.clear()
    (message,) = told()
    assert message.startswith(f"thread 'import-rows' ended with an open connection to database '{database}': ")
    assert ("it was closed" if mode == "repair" else "connections.close_all()") in message
    assert "in query\n" in told.stacks()
    assert "guard/openings.py" not in told.stacks()
    assert "django/db" not in told.stacks()


def test_a_transaction_that_a_thread_leaves_open_is_told(database, mode, told):
    """Its own words; by repair it is rolled back and closed, so that nobody waits for its locks."""
    raws = []

    def leave() -> None:
        transaction.atomic(using=database).__enter__()
        raws.append(query(database))

    with left_to_the_collector():
        in_thread(leave, name="leaver")
        assert is_closed(raws[0]) == (mode == "repair")
        raws.clear()
    (message,) = told()
    assert message.startswith(f"thread 'leaver' ended inside a transaction on database '{database}': ")
    assert ("rolled back and closed" in message) == (mode == "repair")


def test_a_transaction_without_atomic_is_one_too(database, repair, told):
    """set_autocommit(False) and no commit."""

    def leave() -> None:
        transaction.set_autocommit(False, using=database)
        query(database)

    in_thread(leave)
    assert "inside a transaction" in told()[0]


def test_threads_of_an_executor_are_threads(database, repair, told):
    """A ThreadPoolExecutor whose threads end: each connection is closed, and the place told once, with its count."""
    barrier = threading.Barrier(4)

    def call() -> object:
        barrier.wait(10)
        return query(database)

    with ThreadPoolExecutor(4) as pool:
        raws = [future.result() for future in [pool.submit(call) for _ in range(4)]]
    assert all(map(is_closed, raws))
    assert len(told()) == 1


def test_a_place_is_told_at_the_first_and_at_each_power_of_ten(database, repair, told):
    """Twelve threads from one line: two warnings. From another line: a third."""
    for _ in range(12):
        in_thread(lambda: query(database))
    assert ["time 1 " in told()[0], "time 10 " in told()[1], len(told())] == [True, True, 2]
    in_thread(lambda: query(database))
    assert len(told()) == 3


@pytest.mark.parametrize("way", ["thread", "executor", "to_thread", "partial"])
def test_threads_that_call_nothing_but_django_are_told_apart(repair, told, way):
    """Their stacks are the same lines of Python's: what each was to call is told, and makes it a place of its own."""
    for count in (User.objects.count, Group.objects.count, User.objects.all().count, Group.objects.count):
        if way == "executor":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(count).result(20)
        elif way == "to_thread":
            asyncio.run(asyncio.to_thread(count))
        else:
            in_thread(count if way == "thread" else partial(count))
    assert len(told()) == 3
    said = "The thread was to call "
    lines = [line.strip() for line in told.stacks().splitlines()]
    assert [line.removeprefix(said) for line in lines if line.startswith(said)] == [
        "auth.User.objects.count",
        "auth.Group.objects.count",
        "count() of a queryset of auth.User",
    ]


@pytest.mark.parametrize("ending", ["close", "close_all", "failed"])
def test_a_thread_that_closes_is_not_told(database, repair, told, ending):
    """Nor one that never got its connection."""

    def call() -> None:
        if ending == "failed":
            with pytest.raises(Exception, match="doesn't exist"):
                query("nowhere")
            return
        query(database)
        connections[database].close() if ending == "close" else connections.close_all()

    in_thread(call)
    assert told() == []


def test_a_closed_transaction_is_not_open(database, repair, told):
    """close() inside atomic() has given the connection back, whatever the wrapper still says."""

    def call() -> None:
        transaction.atomic(using=database).__enter__()
        query(database)
        connections[database].close()

    in_thread(call)
    assert told() == []


def test_a_wsgi_servers_thread_keeps_what_conn_max_age_keeps(database, mode, told, monkeypatch):
    """It is not told, and by repair closed without a word; a transaction that it leaves is told all the same."""
    monkeypatch.setitem(connections.settings[database], "CONN_MAX_AGE", None)
    raws = []

    def call() -> None:
        request_started.send(sender=None, environ={})
        raws.append(query(database))

    with left_to_the_collector():
        in_thread(call)
        assert is_closed(raws.pop()) == (mode == "repair")
    assert told() == []

    def leave() -> None:
        request_started.send(sender=None, environ={})
        transaction.atomic(using=database).__enter__()
        query(database)

    with left_to_the_collector():
        in_thread(leave)
    assert len(told()) == 1


def test_an_asgi_servers_thread_is_told(database, repair, told, monkeypatch):
    """Its thread ends with each request: CONN_MAX_AGE keeps nothing there, it leaks."""
    monkeypatch.setitem(connections.settings[database], "CONN_MAX_AGE", None)

    def call() -> None:
        request_started.send(sender=None, scope={})
        query(database)

    in_thread(call)
    assert len(told()) == 1


def test_what_is_shared_on_purpose_is_left_alone(database, repair, told):
    """A connection that may be used by other threads (a live server's) outlives the one that opened it."""
    kept = []

    def call() -> None:
        connections[database].inc_thread_sharing()
        query(database)
        kept.append(connections[database])

    in_thread(call)
    assert told() == []
    assert not is_closed(kept[0].connection)
    kept[0].close()


def test_a_private_connection_hides_no_other(database, repair, told):
    """A thread that leaks, and opens a connection to the same database that is not its own (a lock's): both are seen
    for what they are.
    """
    raws = []

    def call() -> None:
        raws.append(query(database))
        private = type(connections[database])(connections[database].settings_dict, database)
        private.inc_thread_sharing()
        private.connect()
        raws.append(private.connection)

    in_thread(call)
    assert list(map(is_closed, raws)) == [True, False]
    raws[1].close()
    assert len(told()) == 1


def test_the_last_connection_counts(database, repair, told):
    """A thread that reconnects is watched for the new connection, not for the old one."""
    raws = []

    def call() -> None:
        raws.append(query(database))
        connections[database].close()
        raws.append(query(database))

    in_thread(call)
    assert all(map(is_closed, raws))
    assert len(told()) == 1


def test_a_thread_that_has_ended_stays_gone(database, repair, told):
    """What is logged while its connection is closed makes no dummy of it in threading.enumerate()."""
    import logging

    levels = {name: logging.getLogger(name).level for name in ("django", "psycopg.pool")}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.DEBUG)
        before = set(threading.enumerate())
        in_thread(lambda: query(database))
        told()
        assert set(threading.enumerate()) <= before
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def test_off_leaves_django_as_it_was(database, told):
    """Nothing is wrapped, no receiver stays, no thread is watched, not even one that has connected before."""
    from django.core.handlers.base import BaseHandler
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.signals import connection_created

    def state() -> tuple[object, ...]:
        wrapped = BaseDatabaseWrapper.connect, BaseDatabaseWrapper._prepare_cursor, BaseHandler.get_response
        receivers = len(connection_created.receivers), len(request_started.receivers)
        return *wrapped, BaseHandler.get_response_async, *receivers

    before = state()
    guard.switch("warn")
    guard.switch("warn")
    assert state() != before
    connected, off = threading.Event(), threading.Event()

    def call() -> None:
        query(database)
        connected.set()
        off.wait(10)

    with left_to_the_collector():
        thread = threading.Thread(target=call)
        thread.start()
        assert connected.wait(10)
        guard.uninstall()
        off.set()
        thread.join(10)
    assert state() == before
    assert told() == []


def test_a_handler_that_asks_the_database_is_not_told_for_ever(database, repair, told):
    """A logging handler of the project that opens a connection: the thread that tells closes it, and ends."""
    import logging

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            query(database)

    handler = Asks()
    logger = logging.getLogger("django_meanwhile.guard")
    logger.addHandler(handler)
    try:
        in_thread(lambda: query(database))
        assert len(told()) == 1
    finally:
        logger.removeHandler(handler)
        connection.close()


def test_a_handler_that_raises_costs_no_other_finding(database, repair, told, monkeypatch):
    """It is logged as an error, and what waits is told."""
    from django_meanwhile.guard import findings

    def bad() -> None:
        raise ValueError("the handler's")

    findings.later(bad)
    in_thread(lambda: query(database))
    messages = told()
    assert "a finding of the guard could not be told" in messages
    assert any("open connection" in message for message in messages)


def test_our_own_threads_leave_nothing(database, repair, told):
    """An executor, parallel() and a lock of django_meanwhile.concurrent: when they have ended, nothing is told but what
    a bare thread that took the lock has left open by itself.
    """
    from django_meanwhile.concurrent import Lock, ThreadPoolExecutor, parallel

    with ThreadPoolExecutor(2) as pool:
        assert pool.submit(query, database).result(20)
    assert all(parallel(lambda: query(database), lambda: query(database)))
    with ThreadPoolExecutor(1) as pool:

        def locked() -> None:
            with Lock("guard", using=database):
                query(database)

        pool.submit(locked).result(20)
    in_thread(locked)
    (message,) = told()
    assert message.startswith("thread 'bare' ")


def test_a_thread_that_was_watched_before_is_watched_again(database, told):
    """Off and on again while it lives: its next connection is its end's to look at, once."""
    connected, switched = threading.Event(), threading.Event()

    def call() -> None:
        query(database)
        connections[database].close()
        connected.set()
        switched.wait(20)
        query(database)

    try:
        guard.switch("repair")
        thread = threading.Thread(target=call)
        thread.start()
        assert connected.wait(20)
        guard.uninstall()
        guard.switch("repair")
        switched.set()
        thread.join(20)
        assert len(told()) == 1
    finally:
        guard.uninstall()
