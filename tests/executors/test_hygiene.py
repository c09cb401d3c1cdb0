"""Between two bodies in one slot: a clean connection, kept warm, on every vendor."""

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction

from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor as Kind
from tests.project.models import Mark

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def served(make, kind, database, monkeypatch):
    """One slot, with connections kept open as ``prepare_process`` sets them."""
    monkeypatch.setitem(connections.settings[database], "CONN_MAX_AGE", None)
    monkeypatch.setitem(connections.settings[database], "CONN_HEALTH_CHECKS", True)
    return make(kind)


@pytest.fixture
def run(served, kind):
    """Run a plain function as a body; in a coroutine it goes where the ORM's calls go."""

    def run_it(body):
        return served.run(lambda: sync_to_async(body)() if kind is Kind.ASYNCIO else body())

    return run_it


def backend(alias):
    """Identify the raw connection of the calling thread, opening it if need be."""
    connections[alias].ensure_connection()
    return id(connections[alias].connection)


def look(alias):
    """What a body finds: an open transaction? the query log, and whether the connection works."""
    connection = connections[alias]
    return {
        "atomic": connection.in_atomic_block,
        "autocommit": connection.get_autocommit(),
        "queries": len(connection.queries_log),
        "marks": Mark.objects.using(alias).count(),
    }


CLEAN = '{"atomic":false,"autocommit":true,"queries":0,"marks":0}'


def leave_autocommit_off(alias):
    """A body that begins a transaction by hand and forgets it."""
    transaction.set_autocommit(False, using=alias)
    Mark.objects.using(alias).create(text="never committed")


def leave_atomic_open(alias):
    """A body that enters ``atomic()`` and never leaves."""
    transaction.atomic(using=alias).__enter__()
    Mark.objects.using(alias).create(text="never committed")


def leave_broken_transaction(alias):
    """A body whose transaction has failed."""
    leave_atomic_open(alias)
    with pytest.raises(Exception, match="nowhere"):
        connections[alias].cursor().execute("SELECT * FROM nowhere")


def leave_it_closed_in_a_transaction(alias):
    """A body whose connection broke inside ``atomic()``."""
    leave_atomic_open(alias)
    connections[alias].connection.close()


MESSES = [
    leave_autocommit_off,
    leave_atomic_open,
    leave_broken_transaction,
    leave_it_closed_in_a_transaction,
]


@pytest.mark.parametrize("mess", MESSES)
def test_the_next_body_sees_nothing_of_a_mess(run, database, mess):
    """A transaction left open is rolled back, a broken connection replaced: the next body starts clean."""
    assert run(lambda: look(database)).result == CLEAN
    run(lambda: mess(database))
    assert run(lambda: look(database)).result == CLEAN
    assert run(lambda: Mark.objects.using(database).create(text="committed").pk).end is End.SUCCEEDED
    assert Mark.objects.using(database).count() == 1


@pytest.mark.parametrize("mess", MESSES)
def test_a_mess_is_cleared_after_an_error_too(run, database, mess):
    """Whether the body returned or raised makes no difference to its successor."""

    def body():
        mess(database)
        raise SystemExit(1)

    assert run(body).end is End.FAILED
    assert run(lambda: look(database)).result == CLEAN


def test_the_query_log_of_a_body_ends_with_it(run, database, settings):
    """Under DEBUG, a worker that runs for weeks does not remember every query it ever made."""
    settings.DEBUG = True

    def body():
        for _ in range(5):
            Mark.objects.using(database).count()
        return len(connections[database].queries_log)

    assert run(body).result == "5"
    assert run(lambda: len(connections[database].queries_log)).result == "0"


def test_a_healthy_connection_is_kept(run, database):
    """Fifty bodies in one slot use one connection: opening one for each costs more than all else together."""
    seen = {run(lambda: backend(database)).result for _ in range(50)}
    assert len(seen) == 1


def test_a_connection_that_the_server_cut_between_bodies_costs_no_body(run, database):
    """The next body gets a new connection and notices nothing."""
    if connections[database].vendor == "sqlite":
        return  # a file cuts nobody off

    def body():
        with connections[database].cursor() as cursor:
            return cursor.execute("SELECT pg_backend_pid()").fetchone()[0]

    first = run(body).result
    with connections[database].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [int(first)])
    second = run(body)
    assert second.end is End.SUCCEEDED
    assert second.result != first


def test_an_unused_database_is_not_connected_to(run, database):
    """A body that asks no database leaves no connection, and tidying makes none."""

    def opened():
        return [connection.alias for connection in connections.all() if connection.connection is not None]

    run(lambda: None)
    assert run(opened).result == "[]"


def test_an_ended_slot_leaves_no_connection(served, run, database):
    """When a slot ends, its connection is closed, not dropped: the server is rid of it."""
    raw = []

    def body():
        connections[database].ensure_connection()
        raw.append(connections[database].connection)

    run(body)
    served.end()
    assert is_closed(raw[0])


def is_closed(raw) -> bool:
    """Say whether a driver's connection has been closed."""
    if hasattr(raw, "closed"):
        return bool(raw.closed)
    import sqlite3

    try:
        raw.execute("SELECT 1")
    except sqlite3.ProgrammingError as error:
        return "closed" in str(error)
    return False
