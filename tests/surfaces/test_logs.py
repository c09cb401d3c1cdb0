"""One line for one event, whatever a value contains; job id and task on each record."""

import contextlib
import copy
import io
import logging
import pickle
import uuid

import pytest

from django_meanwhile import logs

HOSTILE = "x\n2026-01-01 CRITICAL forged\r\x1b[31mred\x9b31m\u2028\u202e\ud800"


@pytest.fixture
def lines():
    """Collect formatted records of the jobs logger, and leave the logging system as it was."""
    root = logging.getLogger(logs.ROOT)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.LineFormatter())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: stream.getvalue().splitlines()
    root.removeHandler(handler)
    root.setLevel(level)


@contextlib.contextmanager
def unconfigured():
    """Take all handlers away from our loggers and the root, as in a project without LOGGING; pytest has some of its
    own.
    """
    loggers = [logging.getLogger(logs.ROOT), logging.getLogger()]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = []
    loggers[0].setLevel(logging.NOTSET)
    yield loggers[0]
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.mark.parametrize("template", ["got %s", "got %r"])
def test_a_hostile_value_stays_on_its_line(lines, template):
    """A value with line breaks, ANSI sequences, C1 controls, bidirectional marks or surrogates makes one printable
    line.
    """
    logs.get_logger("jobs").warning(template, HOSTILE)
    (line,) = lines()
    assert line.isprintable()
    assert "forged" in line
    line.encode()


def test_a_hostile_message_without_values_stays_on_its_line(lines):
    """A message that was put together before it was logged is escaped too, and a percent sign in it stays."""
    logs.get_logger("jobs").warning(f"100% of {HOSTILE}")
    (line,) = lines()
    assert line.isprintable()
    assert "100% of x" in line


def test_an_object_whose_text_is_hostile_stays_on_its_line(lines):
    """What an object's own str() or repr() returns is escaped, not only text."""

    class Hostile:
        def __str__(self):
            return HOSTILE

        __repr__ = __str__

    logs.get_logger("jobs").warning("%s %r %s", Hostile(), Hostile(), ValueError(HOSTILE))
    assert len(lines()) == 1


def test_numbers_keep_their_formats(lines):
    """Formats for numbers work as everywhere."""
    logs.get_logger("jobs").info("%d of %.2f s, %s, %5.1f%%", 3, 1.5, None, 99)
    assert lines()[0].endswith("3 of 1.50 s, None,  99.0%")


def test_a_record_about_a_job_begins_with_it_and_carries_it(lines, caplog):
    """Id and task stand at the beginning of the line and as attributes of the record, escaped in both places."""
    caplog.set_level(logging.DEBUG, logger=logs.ROOT)
    job_id = uuid.uuid4()
    logs.for_job(logs.get_logger("jobs"), job_id, "reports\nforged").info("took %.1f s", 2)
    (line,) = lines()
    assert line.endswith(rf"INFO django_meanwhile.jobs job {job_id} reports\nforged: took 2.0 s")
    (record,) = caplog.records
    assert (record.job_id, record.task) == (str(job_id), r"reports\nforged")


def test_a_percent_sign_in_a_task_or_in_a_message_without_values_is_text(lines):
    """Names are values, never templates."""
    logger = logs.for_job(logs.get_logger("jobs"), "1", "50%s")
    logger.info("100% done")
    logger.info("%d%% done", 5)
    assert [line.partition("job ")[2] for line in lines()] == ["1 50%s: 100% done", "1 50%s: 5% done"]


def test_every_record_has_the_attributes_that_a_formatter_may_name(caplog):
    """A record about no job has both attributes, empty, so that "%(job_id)s" never fails."""
    caplog.set_level(logging.DEBUG, logger=logs.ROOT)
    logs.get_logger("worker").info("up")
    assert (caplog.records[0].job_id, caplog.records[0].task) == ("", "")


def test_the_caller_is_named(caplog):
    """File and function of a record are those of the code that logged, not of this module."""
    caplog.set_level(logging.DEBUG, logger=logs.ROOT)
    logs.for_job(logs.get_logger("jobs"), "1", "t").info("here")
    assert caplog.records[0].funcName == "test_the_caller_is_named"


def test_a_record_that_was_sent_on_is_not_escaped_twice(lines, caplog):
    """A record that a receiver in another process hands to the same logger keeps its text."""
    caplog.set_level(logging.DEBUG, logger=logs.ROOT)
    logger = logs.get_logger("jobs")
    logs.for_job(logger, "1", "t").info("a %s", "b\nc")
    state = copy.copy(caplog.records[0].__dict__)
    state["msg"], state["args"] = caplog.records[0].getMessage(), None
    logger.handle(logging.makeLogRecord(pickle.loads(pickle.dumps(state))))
    first, second = lines()
    assert first == second


def test_a_traceback_cannot_pass_for_records(lines):
    """Every line of a traceback is indented and escaped, also those that a message brought along."""
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logs.get_logger("jobs").exception("failed")
    first, *rest = lines()
    assert "failed" in first
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_names_are_ours_short_or_long():
    """The names worker and django_meanwhile.worker mean one logger, and asking for it again adds nothing."""
    logger = logs.get_logger("worker")
    assert logger is logs.get_logger("django_meanwhile.worker")
    assert logger.name == "django_meanwhile.worker"
    assert len(logger.filters) == 1


def test_a_project_without_logging_gets_a_handler_once():
    """Where nobody handles our records, a worker prints them at INFO; a second call changes nothing."""
    stream = io.StringIO()
    with unconfigured():
        assert logs.ensure_handler(stream=stream)
        assert not logs.ensure_handler(stream=stream)
        logs.get_logger("worker").info("up")
        logs.get_logger("worker").debug("too much")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("INFO django_meanwhile.worker up")
    assert line[10] == "T"
    assert line.split()[0].endswith("Z")


@pytest.mark.parametrize("name", [logs.ROOT, ""])
def test_the_logging_of_the_project_is_left_alone(name):
    """A handler of the project's, on our logger or on the root, is enough."""
    with unconfigured() as logger:
        logging.getLogger(name).addHandler(logging.NullHandler())
        assert not logs.ensure_handler()
        assert logger.level == logging.NOTSET
