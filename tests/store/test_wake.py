"""Wake-ups: announced once per window, heard within milliseconds, and never in anybody's way."""

import gc
import logging
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from django_meanwhile.store import get_store, postgresql_listener, wake
from django_meanwhile.store.postgresql_listener import PostgreSQLListener
from django_meanwhile.store.sqlite_listener import SQLiteListener
from tests.store.scene import LONG, on_postgresql, on_sqlite


class Clock:
    """Time that moves when told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        """See ``core.clock``."""
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Announce by a clock of the test's, as if nothing had been announced before."""
    clock = Clock()
    monkeypatch.setattr(wake, "_clock", clock)
    monkeypatch.setattr(wake, "_announced", {})
    return clock


@pytest.fixture
def listener(scene):
    """A listener that hears: it is connected, and has nothing to report."""
    listener = wake.make_listener(scene.alias)
    _connected(scene, listener)
    yield listener
    listener.close()


def _connected(scene, listener):
    """Wait until it hears, and has heard all that was said. PostgreSQL's connects in its own time."""
    deadline = time.monotonic() + LONG
    while scene.store.supports_notify:
        scene.store.notify(["are you there?"])
        if listener.wait(0.05):
            break
        assert time.monotonic() < deadline
    if scene.store.supports_notify:  # they come in order: with the last one all have come
        scene.store.notify(["that was all"])
        while "that was all" not in listener.wait(0.05):
            assert time.monotonic() < deadline
    while listener.wait(0.05):
        pass


def _backends(scene):
    with connections[scene.alias].cursor() as cursor:
        cursor.execute(
            "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return dict(cursor.fetchall())


# --- announce -------------------------------------------------------------------------------


@pytest.fixture
def sent(scene, monkeypatch):
    """What the store was asked to send, name by name."""
    names = []
    store = get_store(scene.alias)
    monkeypatch.setattr(store, "notify", names.extend)
    return names


@on_postgresql
def test_one_announcement_stands_for_a_window_of_enqueues(scene, clock, sent):
    """Leading edge: the first goes out at once, others within 50 ms do not; each queue has its own window."""
    for _ in range(3):
        wake.announce(scene.alias, ["a", "a"])
    clock.now += 0.03
    wake.announce(scene.alias, ["a", "b"])
    assert sent == ["a", "b"]
    clock.now += 0.03
    wake.announce(scene.alias, ["a", "b", wake.CANCEL])
    assert sent == ["a", "b", wake.CANCEL, "a"]
    wake.announce(scene.alias, [])
    assert len(sent) == 4


@on_postgresql
def test_a_failed_announcement_is_said_and_forgotten(scene, clock, sent, monkeypatch, caplog):
    """The enqueue has been committed: nothing may be raised. The next one tries again at once."""

    def fail(queues):
        raise OperationalError("the connection is gone\x1b[31m")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "django_meanwhile.store"):
        patch.setattr(get_store(scene.alias), "notify", fail)
        wake.announce(scene.alias, ["a"])
    assert "the connection is gone\\x1b[31m" in caplog.text
    assert "postgresql" in caplog.text
    wake.announce(scene.alias, ["a"])
    assert sent == ["a"]


@on_postgresql
def test_announcements_from_many_threads_are_one(scene, clock, sent):
    """The window is the process's, not the thread's."""
    with scene.actors(8) as actors:
        barrier = threading.Barrier(8)
        futures = [actor.start(lambda: (barrier.wait(LONG), wake.announce(scene.alias, ["a"]))) for actor in actors]
        for future in futures:
            future.result(LONG)
    assert sent == ["a"]


@on_sqlite
def test_nothing_is_announced_where_nobody_could_hear_it(scene, sent):
    """SQLite's workers see the commit itself."""
    wake.announce(scene.alias, ["a"])
    assert sent == []


# --- listeners, of both vendors -------------------------------------------------------------


@pytest.mark.alone
def test_work_is_heard_within_a_tenth_of_a_second(scene, listener, clock):
    """From the commit in one thread to the end of ``wait`` in another."""
    with scene.actors(1) as (writer,):
        for number in range(5):
            clock.now += 1

            def enqueue(queue=f"queue {number}"):
                scene.enqueue(queue=queue)
                committed = time.monotonic()
                wake.announce(scene.alias, [queue])
                return committed

            future = writer.start(enqueue)
            heard = listener.wait(LONG)
            assert time.monotonic() - future.result(LONG) < 0.1
            assert heard <= {f"queue {number}", wake.ANYTHING}
            assert heard
            while listener.wait(0.03):
                pass


@pytest.mark.alone
def test_silence_ends_with_the_timeout(listener):
    """Not before it, and not much after."""
    began = time.monotonic()
    assert listener.wait(0.1) == set()
    assert 0.1 <= time.monotonic() - began < 1
    assert listener.wait(0) == set()


def test_what_is_announced_between_two_waits_is_not_lost(scene, listener, clock):
    """All names since the last call come together, at once."""
    scene.enqueue()
    wake.announce(scene.alias, ["a", "b"])
    heard = set()
    deadline = time.monotonic() + LONG
    while not heard >= {"a", "b"} and wake.ANYTHING not in heard:
        assert time.monotonic() < deadline
        heard |= listener.wait(1)
    assert heard in ({"a", "b"}, {wake.ANYTHING})


def test_a_rollback_wakes_nobody(scene, listener):
    """Nothing was committed, so there is nothing to look for."""
    with scene.actors(1) as (writer,):
        writer.begin()
        writer.do(scene.enqueue)
        writer.roll_back()
    assert listener.wait(0.1) == set()


@pytest.mark.alone
@pytest.mark.parametrize("deaf", [False, True], ids=["listening", "waiting"])
def test_closing_ends_a_wait_at_once(scene, deaf):
    """From any thread, within 0.2 s, as often as one likes; a closed listener never waits again."""
    listener = wake.WaitingListener() if deaf else wake.make_listener(scene.alias)
    waiting = threading.Event()
    ended = []

    def wait():
        waiting.set()
        ended.append((listener.wait(LONG), time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(LONG)
    began = time.monotonic()
    listener.close()
    thread.join(LONG)
    ((heard, end),) = ended
    assert heard == set()
    assert end - began < 0.2
    listener.close()
    assert listener.wait(LONG) == set()
    assert time.monotonic() - began < 1


def test_a_closed_listener_leaves_nothing_open(scene):
    """No thread, no connection, no descriptor."""

    def descriptors():
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    scene.store.now()
    before, threads = descriptors(), set(threading.enumerate())
    for _ in range(3):
        listener = wake.make_listener(scene.alias)
        _connected(scene, listener)
        listener.close()
    assert not set(threading.enumerate()) - threads
    assert descriptors() <= before


# --- PostgreSQL -----------------------------------------------------------------------------


@on_postgresql
def test_a_listener_that_was_cut_off_listens_again(scene, listener, clock, caplog):
    """It waits as if nothing was announced, says so once, and hears again by itself, having missed who knows what."""
    caplog.set_level(logging.INFO, "django_meanwhile.store")
    (pid,) = [pid for pid, query in _backends(scene).items() if "LISTEN" in query]
    with connections[scene.alias].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert listener.wait(LONG) == {wake.ANYTHING}  # who knows what was announced meanwhile
    _connected(scene, listener)
    assert pid not in _backends(scene)
    assert [record.levelname for record in caplog.records if "listening" in record.message] == ["WARNING", "INFO"]


@on_postgresql
def test_a_listener_looks_for_a_sign_of_life(scene, clock, monkeypatch):
    """A server that vanished without a word is not waited for for ever: it is asked now and then."""
    monkeypatch.setattr(postgresql_listener, "CHECK_EVERY", 0.01)
    with closing(wake.make_listener(scene.alias)):
        deadline = time.monotonic() + LONG
        while "SELECT 1" not in _backends(scene).values():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.alone
@on_postgresql
def test_a_dead_network_keeps_nobody_waiting(scene, monkeypatch):
    """The listening thread may hang: ``wait`` returns at its time, and ``close`` at once."""
    back = threading.Event()

    def hang(**_):
        back.wait(LONG)
        raise psycopg.OperationalError("connection timeout expired")

    monkeypatch.setattr(psycopg, "connect", hang)
    listener = wake.make_listener(scene.alias)
    began = time.monotonic()
    assert listener.wait(0.1) == set()
    listener.close()
    assert time.monotonic() - began < 1
    back.set()
    listener._thread.join(LONG)


@on_postgresql
def test_a_listener_stays_outside_djangos_pool(scene, monkeypatch):
    """It holds its connection for as long as the worker lives: no pool should miss it."""
    monkeypatch.setitem(connections[scene.alias].settings_dict["OPTIONS"], "pool", {"min_size": 1, "max_size": 1})
    with closing(wake.make_listener(scene.alias)) as listener:
        assert isinstance(listener, PostgreSQLListener)
        assert "pool" not in listener._parameters


@on_postgresql
def test_psycopg_2_polls(scene, monkeypatch):
    """Without psycopg 3 nobody is woken; the workers poll."""
    monkeypatch.setattr(get_store(scene.alias), "supports_notify", False)
    assert isinstance(wake.make_listener(scene.alias), wake.WaitingListener)


@on_postgresql
def test_behind_a_pooler_nobody_listens(scene, monkeypatch):
    """Where the settings tell of transaction pooling, no LISTEN stays behind on a connection that others use next."""
    monkeypatch.setitem(connections[scene.alias].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    assert isinstance(wake.make_listener(scene.alias), wake.WaitingListener)


# --- SQLite ---------------------------------------------------------------------------------


@on_sqlite
def test_a_database_in_memory_polls(scene, monkeypatch):
    """There is no file that another connection could watch."""
    monkeypatch.setattr(connections[scene.alias], "is_in_memory_db", lambda: True)
    assert isinstance(wake.make_listener(scene.alias), wake.WaitingListener)


@pytest.fixture
def watched(scene, tmp_path, monkeypatch):
    """The path of a file that a listener watches instead of the scene's; and the listener."""
    path = tmp_path / "a file with 100 % odd?name#.sqlite3"
    monkeypatch.setitem(connections[scene.alias].settings_dict, "NAME", str(path))
    monkeypatch.setattr("django_meanwhile.store.sqlite_listener.CHECK_EVERY", 0.01)
    listener = wake.make_listener(scene.alias)
    assert isinstance(listener, SQLiteListener)
    yield path, listener
    listener.close()


def _write(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
        connection.execute("INSERT INTO t VALUES (1)")


@on_sqlite
def test_a_missing_file_is_waited_for_not_created(watched, caplog):
    """A listener never makes a database, and hears once there is one."""
    caplog.set_level(logging.INFO, "django_meanwhile.store")
    path, listener = watched
    assert listener.wait(0.05) == set()
    assert not path.exists()
    for _ in range(2):
        _write(path)
        assert listener.wait(LONG) == {wake.ANYTHING}
    assert [record.levelname for record in caplog.records if "watching" in record.message] == ["WARNING", "INFO"]


@on_sqlite
def test_a_file_that_was_replaced_is_noticed(watched, tmp_path):
    """After a restore the open file is not the database any more: the new one is watched."""
    path, listener = watched
    _write(path)
    listener.wait(0.05)
    restored = tmp_path / "restored.sqlite3"
    _write(restored)
    restored.rename(path)
    assert listener.wait(LONG) == {wake.ANYTHING}  # who knows what is in it
    assert listener.wait(0.05) == set()
    _write(path)
    assert listener.wait(LONG) == {wake.ANYTHING}


@on_sqlite
def test_a_writer_that_keeps_readers_out_is_waited_for(watched):
    """Without WAL a commit locks the file for a moment: the listener hears it afterwards, not never."""
    path, listener = watched
    _write(path)
    listener.wait(0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO t VALUES (1)")
        assert listener.wait(0.1) == set()
        writer.execute("COMMIT")
    assert listener.wait(LONG) == {wake.ANYTHING}


@on_sqlite
def test_a_file_that_is_no_database_is_silence(watched):
    """Whatever is wrong with it: the poll reports errors, the listener keeps trying."""
    path, listener = watched
    path.write_bytes(b"not a database, though long enough to be taken for one" * 100)
    assert listener.wait(0.1) == set()


# --- stores ---------------------------------------------------------------------------------


def test_a_store_is_made_once_per_alias(scene):
    """``get_store`` gives every caller the same object, of the alias's vendor."""
    store = get_store(scene.alias)
    assert store is get_store(scene.alias)
    assert (store.alias, store.vendor, store.offset) == (scene.alias, connections[scene.alias].vendor, 0)


@on_sqlite
def test_an_unsupported_vendor_is_named(scene, monkeypatch):
    """The error says which alias, which vendor, and what is supported."""
    monkeypatch.setattr(connections["other"], "vendor", "oracle")
    get_store.cache_clear()
    with pytest.raises(ImproperlyConfigured, match=r"'other'.*'oracle'.*postgresql, sqlite"):
        get_store("other")
    get_store.cache_clear()
