"""task_finished, from a thread of its own: whatever receivers do, and whatever became of the row."""

import logging
import sys
import threading
from types import SimpleNamespace

import pytest
from django.db import connections
from django.utils.log import AdminEmailHandler

from django_meanwhile.compat import DIALECT, TaskResultStatus, task_finished
from django_meanwhile.tasks.attempts import TaskError
from django_meanwhile.tasks.backend import DatabaseBackend
from django_meanwhile.tasks.finished import Failure, send
from django_meanwhile.worker.herald import Herald
from tests.worker.fakes import WITHIN, away

DETAIL = """\
Traceback (most recent call last):
  File "reports/tasks.py", line 5, in divide
    return a / b
ZeroDivisionError: division by zero
"""


def result(number):
    """What ``task_finished`` carries, as far as the herald looks."""
    task = SimpleNamespace(get_backend=lambda: DatabaseBackend("default", {}), module_path="reports.tasks.divide")
    return SimpleNamespace(number=number, id=str(number), task=task, status=TaskResultStatus.SUCCESSFUL, errors=[])


def failed_result(detail=DETAIL, path="builtins.ZeroDivisionError"):
    """The same of a job that failed, at its second attempt."""
    made = result(1)
    made.status = TaskResultStatus.FAILED
    made.errors = [TaskError(exception_class_path=p, traceback=d) for p, d in (("a.B", "earlier"), (path, detail))]
    return made


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


# --- the error of a failure -----------------------------------------------------------------


@pytest.fixture
def dialect_log(caplog):
    """What the dialect's own receiver logs; nobody else listens."""
    caplog.set_level(logging.INFO, logger=DIALECT)
    return lambda: [record for record in caplog.records if record.name == DIALECT]


def test_the_dialects_own_record_of_a_failure_has_its_traceback(dialect_log):
    """Django 6.1 logs ``sys.exc_info()``, the backport what is in force: both have the body's traceback, not None."""
    send(failed_result())
    (record,) = dialect_log()
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "Task id=1 path=reports.tasks.divide state=FAILED"
    printed = logging.Formatter().format(record).splitlines()[1:]
    assert printed == [
        "django_meanwhile.tasks.finished.Failure: ZeroDivisionError: division by zero",
        *(f"    {line}" for line in DETAIL.splitlines()),
    ]


def test_a_success_is_logged_without_any_error(dialect_log):
    """INFO, one line: nothing is in force where nothing failed."""
    send(result(1))
    (record,) = dialect_log()
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


class Mailer(AdminEmailHandler):
    """Keeps what it would send."""

    def send_mail(self, subject, message, **_):
        self.sent = subject, message


def test_a_mail_to_the_admins_shows_the_traceback(dialect_log):
    """``ADMINS`` get it with each failure, in the production that Django configures by itself."""
    send(failed_result())
    mailer = Mailer()
    mailer.emit(dialect_log()[0])
    subject, message = mailer.sent
    assert "Task id=1 path=reports.tasks.divide state=FAILED" in subject
    assert "in divide" in message
    assert "ZeroDivisionError: division by zero" in message
    assert "herald.py" not in message


def test_a_traceback_cannot_pass_for_records_of_others(dialect_log):
    """The project's formatters do not escape: the text does not need it."""
    send(failed_result("x\n2026-01-01 CRITICAL forged\x1b[31m\nValueError: \u202ey", "builtins.ValueError"))
    first, why, *rest = logging.Formatter().format(dialect_log()[0]).split("\n")
    assert first.isprintable()
    assert why.isprintable()
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_receivers_find_the_failure_in_force_and_only_then(heard):
    """As with the dialect's own backends; afterwards nothing is in force any more."""
    seen = []
    heard.trouble[1] = lambda: seen.append(sys.exc_info())
    send(result(1))
    send(failed_result())
    cancelled_unseen = failed_result()
    cancelled_unseen.errors = []
    send(cancelled_unseen)
    assert [kind for kind, _, _ in seen] == [None, Failure, None]
    assert seen[1][2] is None, "where it was raised is of no interest"
    assert sys.exc_info() == (None, None, None)


def test_a_receiver_that_raises_again_changes_nothing(herald, heard):
    """The failure in force is caught with whatever else a receiver raises."""

    def again():
        raise  # noqa: PLE0704 - what a receiver may do inside an except block

    heard.trouble[1] = again
    herald.announce(failed_result)
    herald.announce(lambda: result(2))
    heard.wait_for(2)
    assert herald.is_alive
