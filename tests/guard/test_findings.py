"""What is said of a finding and when, and what the guard knows of connections and cursors."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, connections

from django_meanwhile import guard
from django_meanwhile.guard import findings, openings, threads

from .conftest import in_thread, query

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_too_many_places_the_rest_is_one(monkeypatch):
    """The table of places does not grow for ever: beyond its size all others count together."""
    monkeypatch.setattr(findings, "PLACES", 2)
    monkeypatch.setattr(findings, "_counts", {})
    assert [findings.count(place) for place in "abcdb"] == [1, 1, 1, None, None]
    assert len(findings._counts) == 3


def test_a_stack_without_a_line_of_the_project_is_told_whole():
    """Rather than nothing: all its lines are Django's, say."""
    code = User.objects.count.__code__
    assert findings._WAYS[0] in code.co_filename
    assert code.co_filename in findings.text(((code, 1),))


def test_where_no_thread_can_be_started_the_next_finding_tells(monkeypatch):
    """At the end of a process, or at the limit of threads: it is not lost, and raises nothing."""
    told = []
    with monkeypatch.context() as patched:
        patched.setattr(findings.threading.Thread, "start", _fails)
        findings.later(lambda: told.append(1))
    findings.later(lambda: told.append(2))
    for thread in threading.enumerate():
        if thread.name == "meanwhile-guard":
            thread.join(20)
    assert told == [1, 2]


def _fails(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_closing_that_fails_is_told(database, repair, told):
    """With the database's words: the thread ends, and nothing is raised."""
    kept = []

    def leave() -> None:
        query(database)
        connection = connections[database]
        kept.append(connection.connection)
        connection.close = _gone

    in_thread(leave)
    kept[0].close()
    (message,) = told()
    assert "closing it failed: gone" in message


def _gone() -> None:
    raise InterfaceError("gone")


def test_a_database_in_memory_is_nobodys_leak(repair, told, monkeypatch):
    """It lives as long as its connection, and costs no other."""
    options = connections.configure_settings({"default": {}, "memory": {**connections.settings["default"]}})["memory"]
    monkeypatch.setitem(connections.settings, "memory", {**options, "NAME": ":memory:"})
    kept = []

    def leave() -> None:
        connection = connections["memory"]
        connection.connect()
        kept.append(connection.connection)

    in_thread(leave)
    kept[0].execute("SELECT 1")
    kept[0].close()
    assert told() == []


def test_what_another_thread_finalizes_is_not_touched(database, repair, told):
    """It might use the connection; where threads end by themselves, this does not happen."""
    ends, left, go = [], threading.Event(), threading.Event()

    def leave() -> None:
        query(database)
        ends.append(threads._watch.end)
        threads._watch.end = None
        left.set()
        assert go.wait(20)
        connections[database].close()

    thread = threading.Thread(target=leave)
    thread.start()
    assert left.wait(20)
    ends.clear()
    assert told() == []
    go.set()
    thread.join(20)


def test_the_main_thread_is_not_watched(database, repair):
    """The process takes all it has with it."""
    connections[database].close()
    query(database)
    assert threads._watch.end is None


def test_after_the_main_threads_end_nothing_is_told(database, repair, told, monkeypatch):
    """The process ends, and so do the sessions: a daemon that ends at that moment leaks nothing."""
    kept = []

    def leave() -> None:
        query(database)
        kept.append(connections[database].connection)

    with monkeypatch.context() as patched:
        patched.setattr(threading.main_thread(), "is_alive", lambda: False)
        in_thread(leave)
    kept[0].close()
    assert told() == []


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_cursor_that_is_closed_is_not_read(database, repair):
    """Whoever still refers to it."""
    connections[database].close()
    cursor = connections[database].cursor()
    assert openings.is_being_read(connections[database])
    cursor.close()
    assert not openings.is_being_read(connections[database])


def test_of_cursors_that_are_not_known_the_worst_is_assumed(database, told):
    """Of a connection that was used while the guard was off, and of a driver whose cursors cannot be seen to end."""
    connections[database].close()
    query(database)
    guard.switch("repair")
    try:
        assert openings.is_being_read(connections[database])
        connections[database].close()
        query(database)
        assert not openings.is_being_read(connections[database])
        openings._prepare_watched_cursor(connections[database], _Unseen())
        assert openings.is_being_read(connections[database])
    finally:
        guard.uninstall()


class _Unseen:
    __slots__ = ()


def test_off_leaves_no_receiver(told):
    """Whatever was on before, and in whatever order."""
    from django.core.signals import request_started
    from django.db.backends.signals import connection_created

    guard.switch("repair")
    guard.uninstall()
    left = [key for signal in (connection_created, request_started) for key, *_ in signal.receivers]
    assert not [key for key in left if "django_meanwhile.guard" in str(key)]


def test_a_stream_without_a_view_is_named_by_its_address(database, repair, told):
    """A middleware may answer by itself: each address is a place."""
    from django_meanwhile.guard import streams

    for path in ("/a/", "/b/", "/b/"):
        query(database)
        streams._look(SimpleNamespace(resolver_match=None, path=path))
    assert [message.partition(" keeps ")[0] for message in told()] == [
        "the streaming response of /a/",
        "the streaming response of /b/",
    ]
