"""task_finished, from a thread of its own: whatever receivers do, and whatever became of the row."""

import threading
from types import SimpleNamespace

import pytest
from django.db import connections

from django_meanwhile.compat import task_finished
from django_meanwhile.tasks.backend import DatabaseBackend
from django_meanwhile.worker.herald import Herald
from tests.worker.fakes import WITHIN, away


def result(number):
    """What ``task_finished`` carries, as far as the herald looks."""
    return SimpleNamespace(number=number, task=SimpleNamespace(get_backend=lambda: DatabaseBackend("default", {})))


class Heard:
    """A receiver that remembers, and misbehaves on demand."""

    def __init__(self):
        self.numbers = []
        self.threads = set()
        self.senders = set()
        self.trouble = {}
        self.changed = threading.Condition()

    def __call__(self, sender, task_result, **_):
        with self.changed:
            self.numbers.append(task_result.number)
            self.threads.add(threading.current_thread().name)
            self.senders.add(sender)
            self.changed.notify_all()
        if task_result.number in self.trouble:
            self.trouble[task_result.number]()

    def wait_for(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.numbers, WITHIN), self.numbers


@pytest.fixture
def heard(monkeypatch):
    """The one receiver: the dialect's own log receiver would want a real result."""
    monkeypatch.setattr(task_finished, "receivers", [])
    task_finished.sender_receivers_cache.clear() if task_finished.use_caching else None
    receiver = Heard()
    task_finished.connect(receiver, weak=False)
    return receiver


@pytest.fixture
def herald():
    """Started; ends with the test."""
    made = Herald()
    made.start()
    yield made
    made.stop()
    assert made.join(WITHIN)


def _raise(error):
    raise error


def test_what_is_announced_is_sent_once_in_order_from_its_own_thread(herald, heard):
    """Nobody who announces waits for a receiver."""
    for number in range(20):
        herald.announce(lambda number=number: result(number))
    heard.wait_for(19)
    assert heard.numbers == list(range(20))
    assert heard.threads == {"meanwhile-herald"}
    assert heard.senders == {DatabaseBackend}


def test_stop_sends_first_what_was_announced_before(heard):
    """A child that ends has told of every ending it wrote."""
    made = Herald()
    for number in range(50):
        made.announce(lambda number=number: result(number))
    made.start()
    made.stop()
    assert made.join(WITHIN)
    assert heard.numbers == list(range(50))


@pytest.mark.parametrize("error", [ValueError("a receiver's bug"), KeyError(), away()])
def test_a_receiver_that_raises_keeps_nobody_from_hearing_of_the_next(herald, heard, error):
    """Its error is logged by Django, and the next ending is announced."""
    heard.trouble[1] = lambda: _raise(error)
    for number in (1, 2):
        herald.announce(lambda number=number: result(number))
    heard.wait_for(2)
    assert herald.is_alive


@pytest.mark.parametrize("error", [away(), LookupError("the job was pruned"), ValueError("no such backend")])
def test_a_result_that_cannot_be_had_keeps_nobody_from_hearing_of_the_next(herald, heard, caplog, error):
    """The database was away, the row is gone, the task unknown: said in the log, and the herald goes on."""
    herald.announce(lambda: _raise(error))
    herald.announce(lambda: result(2))
    heard.wait_for(2)
    assert herald.is_alive
    assert "task_finished could not be sent" in caplog.text


def test_a_slow_receiver_delays_receivers_only(herald, heard):
    """Announcing goes on while a receiver hangs; everything is sent in the end."""
    go = threading.Event()
    heard.trouble[0] = lambda: go.wait(WITHIN)
    herald.announce(lambda: result(0))
    heard.wait_for(0)
    for number in range(1, 10):
        herald.announce(lambda number=number: result(number))
    assert heard.numbers == [0]
    go.set()
    heard.wait_for(9)


@pytest.mark.django_db(transaction=True)
def test_receivers_find_a_clean_connection(herald, heard):
    """A receiver that leaves a transaction open does not leave it to the next."""
    seen = []

    def litter():
        connections["default"].set_autocommit(False)

    heard.trouble = {1: litter, 2: lambda: seen.append(connections["default"].get_autocommit()), 3: lambda: None}
    for number in (1, 2, 3):
        herald.announce(lambda number=number: result(number))
    heard.wait_for(3)
    assert seen == [True]
