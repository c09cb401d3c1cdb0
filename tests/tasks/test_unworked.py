"""A queue that nobody works is never silent, and costs a question a minute."""

import logging

import pytest
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_meanwhile.core.states import Executor
from django_meanwhile.tasks import unworked as module
from django_meanwhile.tasks.unworked import PERIOD, Watch, unworked

from .lifecycle import FakeWorker, rolled_back
from .sample.tasks import add, fetch

T, A, P = Executor.THREAD, Executor.ASYNCIO, Executor.PROCESS
WORDS = "nobody works queue"


class Clock:
    """A clock that moves when told."""

    now = 1000.0

    def monotonic(self):
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of a watch that takes the place of the process's own."""
    clock = Clock()
    monkeypatch.setattr("django_meanwhile.tasks.enqueue.watch", Watch(clock))
    return clock


def test_without_workers_nothing_is_worked(database):
    """Each pair is named once, in the order asked."""
    assert unworked(database, [("a", T), ("b", A), ("a", T)]) == [("a", T), ("b", A)]
    assert unworked(database, []) == []


def test_a_worker_works_its_queues(database):
    """A living worker works the queues it names with its executors, and no others."""
    FakeWorker(database, queues=("a", "b"))
    assert unworked(database, [("a", T), ("b", P), ("c", T)]) == [("c", T)]


def test_a_worker_without_queues_works_all(database):
    """A worker that names no queue works every one."""
    FakeWorker(database, queues=())
    assert unworked(database, [("a", T), ("c", A)]) == []


def test_a_dead_worker_works_nothing(database):
    """A worker whose row is dead does not count."""
    worker = FakeWorker(database, queues=())
    worker.store.bury([worker.id])
    assert unworked(database, [("a", T)]) == [("a", T)]


@pytest.mark.django_db(transaction=True)
def test_the_warning(database, clock, caplog):
    """An enqueue to a queue that nobody works is warned of, with the command to type, once a minute."""
    task = add.using(backend=database, queue_name="mail")
    task.enqueue(1)
    [record] = [r for r in caplog.records if WORDS in r.getMessage()]
    assert record.levelno == logging.WARNING
    assert record.name.startswith("django_meanwhile")
    text = record.getMessage()
    assert f"'mail' with executor 'thread' on database '{database}'" in text
    named = "" if database == "default" else f"--backend {database} "  # or the line would be for another queue
    assert f"manage.py meanwhile worker {named}--queues mail --threads 8" in text

    clock.now += PERIOD - 1
    task.enqueue(1)
    assert caplog.text.count(WORDS) == 1
    clock.now += 1
    task.enqueue(1)
    assert caplog.text.count(WORDS) == 2


@pytest.mark.django_db(transaction=True)
def test_each_queue_and_executor_has_its_own_minute(database, clock, caplog):
    """A warning about one queue does not silence another."""
    add.using(backend=database).enqueue(1)
    add.using(backend=database, executor="process").enqueue(1)
    fetch.using(backend=database).enqueue("u")
    assert caplog.text.count(WORDS) == 3


@pytest.mark.django_db(transaction=True)
def test_no_warning_where_somebody_works(database, clock, caplog):
    """With a worker there is nothing to say."""
    FakeWorker(database)
    add.using(backend=database).enqueue(1)
    assert WORDS not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_never_inside_the_callers_transaction(database, clock, caplog):
    """The question is asked after the commit, and not at all after a rollback."""
    with transaction.atomic(using=database), CaptureQueriesContext(connections[database]) as queries:
        add.using(backend=database).enqueue(1)
    assert not [q for q in queries if "meanwhile_worker" in q["sql"]]
    assert caplog.text.count(WORDS) == 1
    caplog.clear()
    clock.now += PERIOD
    with rolled_back(database):
        add.using(backend=database).enqueue(1)
    assert WORDS not in caplog.text
    add.using(backend=database).enqueue(1)
    assert caplog.text.count(WORDS) == 1


@pytest.mark.django_db(transaction=True)
def test_many_enqueues_ask_once(database, clock):
    """A thousand enqueues of one transaction, and those after it, ask one question."""
    FakeWorker(database)
    with CaptureQueriesContext(connections[database]) as queries:
        with transaction.atomic(using=database):
            for n in range(100):
                add.using(backend=database).enqueue(n)
        for n in range(10):
            add.using(backend=database).enqueue(n)
    assert sum("SELECT" in q["sql"] and "meanwhile_worker" in q["sql"] for q in queries) == 1


def test_a_database_that_does_not_answer_changes_nothing(monkeypatch, caplog):
    """The question may fail; nobody is troubled by it."""

    def fail(*_):
        raise DatabaseError("gone")

    monkeypatch.setattr(module, "unworked", fail)
    with caplog.at_level(logging.DEBUG, "django_meanwhile"):
        Watch(Clock()).look("default", [("a", T)])
    assert "could not be asked: gone" in caplog.text
    assert WORDS not in caplog.text


def test_made_up_queue_names_do_not_grow_for_ever(monkeypatch):
    """Names that are made as it goes do not fill the memory."""
    monkeypatch.setattr(module, "unworked", lambda *_: [])
    watch = Watch(Clock())
    for n in range(5000):
        watch.look("default", [(f"q{n}", T)])
    assert len(watch._asked) < 2000
