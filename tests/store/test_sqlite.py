"""What only SQLite's store has to see to: one writer, the file's journal, and limits of the statement."""

import sqlite3
import threading
import time
from contextlib import closing

import pytest
from django.db import OperationalError, connections, transaction

from django_meanwhile.connections import use_service_connection
from django_meanwhile.core.outcome import Decision, End
from django_meanwhile.core.states import AttemptKind, JobState
from tests.store.scene import LONG, decision, on_sqlite, succeeded

pytestmark = on_sqlite


@pytest.fixture
def writer(scene):
    """Another program, which holds the write lock of the database until told otherwise."""
    scene.store.prepare()
    path = connections[scene.alias].settings_dict["NAME"]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize("mode", [None, "DEFERRED", "IMMEDIATE"])
def test_no_verb_fails_because_somebody_else_writes(scene, store, writer, mode):
    """Every verb that writes waits for its turn, whatever the alias's transaction mode is, and then succeeds."""
    worker, other = scene.worker(), scene.worker()
    jobs = scene.running(5, worker)
    scene.enqueue(2)
    scene.enqueue(1, delay=1)
    over = scene.in_state(JobState.FAILED)
    scene.lapse(other)
    ahead = scene.at(10)
    failed = Decision(run=jobs[1].run, state=JobState.FAILED, kind=AttemptKind.FAILED)
    verbs = [
        lambda: scene.enqueue(3),
        lambda: store.enqueue([scene.new() for _ in range(600)]),
        lambda: store.finish([*succeeded(jobs[:1]), failed]),
        lambda: scene.claim(worker),
        lambda: store.cancel([jobs[2].id]),
        lambda: store.renew([worker], 30),
        lambda: store.kill([other]),
        ahead.promote,
        lambda: ahead.prune(JobState.FAILED, 5),
        lambda: store.retry([over]),
        scene.worker,
    ]
    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, {"transaction_mode": mode, "timeout": LONG})
        for verb in verbs:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE meanwhile_worker SET pid = pid + 1")
            future = actor.start(verb)
            time.sleep(0.05)
            assert not future.done()
            writer.execute("COMMIT")
            future.result(LONG)


def test_a_finish_reads_and_writes_in_one_turn(scene, store, writer):
    """Nobody can write between the fence and the attempt rows: it begins IMMEDIATE and commits once."""
    jobs = scene.running(2)
    said = []
    connection = connections[scene.alias]
    connection.ensure_connection()
    connection.connection.set_trace_callback(said.append)
    try:
        store.finish([decision(job, End.FAILED) for job in jobs])
    finally:
        connection.connection.set_trace_callback(None)
    verbs = [text.split()[0] for text in said if text.split()[0] in {"BEGIN", "COMMIT", "WITH", "INSERT"}]
    assert verbs == ["BEGIN", "WITH", "INSERT", "COMMIT"]
    assert next(text for text in said if text.startswith("BEGIN")) == "BEGIN IMMEDIATE"


def test_a_verb_inside_a_transaction_is_a_part_of_it(scene, store):
    """The test tools run jobs inside a test's own transaction: no second BEGIN, and a rollback undoes it all."""
    job = scene.one()
    with transaction.atomic(using=scene.alias):
        assert scene.end(job, End.FAILED) is JobState.FAILED
        assert len(scene.attempts(job.id)) == 1
        transaction.set_rollback(True, using=scene.alias)
    assert scene.state(job.id) is JobState.RUNNING
    assert scene.attempts(job.id) == []


def test_a_failed_verb_leaves_no_transaction_open(scene, store):
    """The lock is let go, and the connection goes on working."""
    job = scene.one()
    with pytest.raises(Exception, match="CHECK"):
        store.finish([Decision(run=job.run, state=JobState.RUNNING)])
    assert not connections[scene.alias].connection.in_transaction
    assert scene.end(job, End.SUCCEEDED, result="1") is JobState.SUCCESSFUL


def test_a_lock_that_is_never_released_is_an_operational_error(scene, store, writer):
    """After the timeout, as Django's error, with nothing written and nothing left open."""
    job = scene.one()
    writer.execute("BEGIN IMMEDIATE")
    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, {"timeout": 0.05})
        with pytest.raises(OperationalError, match="locked"):
            actor.do(scene.end, job, End.SUCCEEDED)
        writer.execute("COMMIT")
        assert actor.do(scene.end, job, End.SUCCEEDED, result="1") is JobState.SUCCESSFUL


def _journal(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        return cursor.fetchone()[0]


@pytest.fixture
def rollback_journal(scene):
    """A file that was never switched to WAL."""
    for mode in ("delete", "wal"):
        with closing(sqlite3.connect(connections[scene.alias].settings_dict["NAME"], timeout=LONG)) as connection:
            connections[scene.alias].close()
            connection.execute(f"PRAGMA journal_mode = {mode}")
        if mode == "delete":
            yield


def test_preparing_switches_the_file_to_wal(scene, store, rollback_journal):
    """Once; readers and the writer do not keep each other waiting any more."""
    assert _journal(scene.alias) == "delete"
    store.prepare()
    assert _journal(scene.alias) == "wal"


def test_a_setting_forbids_wal(scene, store, rollback_journal, settings):
    """For file systems without shared memory. Then commits are synced as before."""
    settings.MEANWHILE = {"SQLITE_WAL": False}
    store.prepare()
    assert _journal(scene.alias) == "delete"
    assert "init_command" not in store.connection_options()


def test_preparing_while_somebody_writes_is_no_error(scene, store, rollback_journal, caplog):
    """The worker starts, says so, and leaves the switch to the next one."""
    with closing(sqlite3.connect(connections[scene.alias].settings_dict["NAME"], isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with scene.actors(1) as (actor,):
            actor.do(use_service_connection, scene.alias, {"timeout": 0.05})
            actor.do(store.prepare)
    assert "could not be switched to WAL" in caplog.text
    assert _journal(scene.alias) == "delete"


def test_service_connections_keep_what_the_project_asked_for(scene, store, monkeypatch):
    """A longer timeout and commands of its own stay; ours come on top."""
    given = {"timeout": 60, "init_command": "PRAGMA cache_size = 1234"}
    monkeypatch.setitem(connections[scene.alias].settings_dict, "OPTIONS", given)
    options = store.connection_options()
    assert (options["timeout"], options["transaction_mode"]) == (60, "IMMEDIATE")
    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, options)

        def pragmas():
            with connections[scene.alias].cursor() as cursor:
                return [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "synchronous")]

        assert actor.do(pragmas) == [1234, 1]


def test_the_beats_connection_asks_again_before_the_next_beat(scene, store, writer):
    """A writer that holds the lock for long costs the beat half its time at most: SQLITE_BUSY, and nothing is lost."""
    worker = scene.worker()
    writer.execute("BEGIN IMMEDIATE")
    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, {**store.connection_options(), **store.beat_options(0.2)})
        with pytest.raises(OperationalError, match="locked"):
            actor.do(store.renew, [worker], 30)
        writer.execute("COMMIT")
        assert actor.do(store.renew, [worker], 30) == {worker}


def test_eight_writers_never_see_a_locked_database(scene, store):
    """All verbs at once from eight threads: they wait for each other, and nobody fails."""
    store.prepare()
    barrier = threading.Barrier(8)

    def work():
        worker, done = scene.worker(), 0
        barrier.wait(LONG)
        for _ in range(20):
            scene.enqueue(3)
            for job in scene.claim(worker, 5):
                store.renew([worker], 30)
                done += scene.end(job, End.SUCCEEDED, result="1") is not None
            store.promote()
        return done

    with scene.actors(8) as actors:
        futures = [actor.start(work) for actor in actors]
        done = sum(future.result(120) for future in futures)
    assert done == list(scene.states().values()).count(JobState.SUCCESSFUL) > 100
