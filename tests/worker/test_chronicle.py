"""What the log tells of the end of a run: one record, at its reader's level, and no line that is forged."""

import logging

import pytest

from django_meanwhile import logs
from django_meanwhile.core.outcome import End, Outcome
from django_meanwhile.core.states import JobState
from django_meanwhile.core.text import describe
from django_meanwhile.run.handle import RunHandle
from django_meanwhile.worker import chronicle
from tests.run import sample
from tests.run.jobs import claimed

ZERO = "builtins.ZeroDivisionError"
INTERRUPTED = Outcome(end=End.INTERRUPTED)


def failure(error=None, *, retry_in=None):
    """A failed attempt with a real traceback, and the note that a policy may add."""
    try:
        raise error or ZeroDivisionError("division by zero")
    except Exception as caught:
        path = f"{type(caught).__module__}.{type(caught).__qualname__}"
        return Outcome(end=End.FAILED, exception=path, detail=f"{describe(caught)}\nA note.", retry_in=retry_in)


@pytest.fixture
def told(caplog):
    """Tell of an end; return its records as (level, text after the job), with the records themselves."""
    caplog.set_level(logging.DEBUG, logger=logs.ROOT)

    def tell(outcome, state, *, task=sample.do, begun=True, seconds=0.0, **changes):
        job = claimed(task, "x", **changes)
        caplog.clear()
        chronicle.tell(job, outcome, state, RunHandle(job, task, None) if begun else None, seconds)
        start = f"job {job.id} {job.task}: "
        assert all(record.getMessage().startswith(start) for record in caplog.records)
        assert all((record.job_id, record.task) == (str(job.id), job.task) for record in caplog.records)
        return [(record.levelname, record.getMessage().removeprefix(start)) for record in caplog.records]

    tell.records = lambda: caplog.records
    return tell


def test_a_success_is_told_with_its_seconds(told):
    """DEBUG: printed for each of many short jobs, it slows a worker down."""
    assert told(Outcome(end=End.SUCCEEDED), JobState.SUCCESSFUL, seconds=0.523) == [("DEBUG", "succeeded in 0.52 s")]


def test_nothing_is_put_together_for_a_success_that_nobody_reads(told, monkeypatch):
    """The fast path costs one question while DEBUG is off."""
    monkeypatch.setattr(logs, "for_job", lambda *_args, **_more: pytest.fail("a record was made"))
    logging.getLogger("django_meanwhile.jobs").setLevel(logging.INFO)
    try:
        assert told(Outcome(end=End.SUCCEEDED), JobState.SUCCESSFUL) == []
    finally:
        logging.getLogger("django_meanwhile.jobs").setLevel(logging.NOTSET)


def test_a_failed_job_is_told_with_what_went_wrong(told):
    """ERROR, the attempt, the last line of the traceback; the whole of it follows, indented."""
    message = "failed at attempt 1 of 1: ZeroDivisionError: division by zero"
    assert told(failure(), JobState.FAILED) == [("ERROR", message)]
    (record,) = told.records()
    printed = logs.LineFormatter().format(record).splitlines()
    assert printed[0].endswith(message)
    assert printed[1] == "    Traceback (most recent call last):"
    assert printed[-3:] == ["    ZeroDivisionError: division by zero", "    ", "    A note."]
    assert logging.Formatter().format(record).splitlines()[1:] == printed[1:], "a formatter of the project's, too"
    assert not hasattr(record, "lines"), "said once"


def test_a_failure_cannot_forge_a_record(told):
    """Whatever an exception says: one line, then lines that are indented and printable."""
    hostile = ValueError("x\n2026-01-01T00:00:00.000Z CRITICAL forged\r\x1b[31mred\u2028\u202e")
    told(failure(hostile), JobState.FAILED)
    (record,) = told.records()
    for formatter in (logs.LineFormatter(), logging.Formatter()):
        first, *rest = formatter.format(record).split("\n")
        assert first.isprintable()
        assert any("forged" in line for line in rest)
        assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_an_attempt_that_is_retried_is_told_without_its_traceback(told):
    """WARNING, which attempt of how many, why, and when the next one comes."""
    told_of = told(failure(retry_in=1.94), JobState.SCHEDULED, task=sample.do_again, attempts=2)
    assert told_of == [("WARNING", "attempt 2 of 3 failed: ZeroDivisionError: division by zero; again in 1.9 s")]
    assert told.records()[0].exc_text is None
    at_once = told(failure(retry_in=0.0), JobState.READY, task=sample.do_again)
    assert at_once == [("WARNING", "attempt 1 of 3 failed: ZeroDivisionError: division by zero; again in 0.0 s")]


def test_a_job_whose_body_could_not_be_called_is_told(told):
    """Its arguments cannot be read, say: which attempt it was does not matter."""
    outcome = Outcome(end=End.FAILED, exception="a.DecodingError", detail="argument 1: no", begun=False)
    assert told(outcome, JobState.FAILED, begun=False) == [
        ("ERROR", "could not be begun: a.DecodingError: argument 1: no")
    ]


@pytest.mark.parametrize("outcome", [Outcome(end=End.CANCELLED), failure(retry_in=5.0), INTERRUPTED])
def test_a_cancelled_job_is_told_by_the_state_that_was_written(told, outcome):
    """A retry or a release of a job whose cancel was requested makes it CANCELLED: nobody says that it runs again."""
    assert told(outcome, JobState.CANCELLED) == [("INFO", "cancelled")]


def test_an_interruption_is_told(told):
    """WARNING while the job is given back; ERROR where on_crash="fail" ends it."""
    assert told(INTERRUPTED, JobState.READY) == [("WARNING", "interrupted; it is run again")]
    assert told(INTERRUPTED, JobState.FAILED, retry_on_crash=False) == [
        ("ERROR", 'interrupted, and FAILED: on_crash="fail", so it is not run again')
    ]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome(end=End.NOT_BEGUN, begun=False), JobState.READY),
        (Outcome(end=End.NOT_BEGUN, begun=False), JobState.SCHEDULED),
        (Outcome(end=End.SUCCEEDED, result="5"), JobState.FAILED),
    ],
)
def test_what_others_tell_is_not_told_twice(told, outcome, state):
    """A run that never began is no event, and the completer has told of an outcome that the database refused."""
    assert told(outcome, state, begun=outcome.begun) == []
