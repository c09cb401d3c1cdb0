"""``assert_enqueued`` and ``capture_enqueued``: true exactly when such jobs are there, helpful when they are not."""

from datetime import timedelta
from unittest.mock import ANY

import django
import pytest
from django.db import transaction

from django_meanwhile import JobState, UnknownTask
from django_meanwhile.compat import task_enqueued
from django_meanwhile.testing import (
    UnusableForTests,
    assert_enqueued,
    assert_not_enqueued,
    capture_enqueued,
    run_jobs,
)
from tests.testing import sample

pytestmark = pytest.mark.django_db

DIALECT = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


@pytest.fixture
def holds(database):
    """Say whether an assertion holds."""

    def ask(*args, **options):
        try:
            assert_enqueued(*args, backend=database, **options)
        except AssertionError:
            return False
        return True

    return ask


def test_it_tells_jobs_apart(on, holds):
    """Task, args, kwargs, queue, priority and count are compared if given, and only then."""
    on(sample.add).enqueue(1, b=2)
    on(sample.send_mail).enqueue("a@example.com")
    on(sample.send_mail).using(priority=7).enqueue("b@example.com")
    assert holds(sample.add)
    assert not holds(sample.do)
    assert all([holds(sample.add, [1]), holds(sample.add, kwargs={"b": 2}), holds(sample.add, (1,), {"b": 2})])
    assert not any([holds(sample.add, [1, 2]), holds(sample.add, [1], {}), holds(sample.add, [2])])
    assert [holds(sample.send_mail, queue=queue) for queue in ("mail", "default")] == [True, False]
    assert [holds(sample.send_mail, priority=priority, count=1) for priority in (7, 6)] == [True, False]
    assert [holds(sample.send_mail, count=count) for count in (0, 1, 2, 3)] == [False, False, True, False]
    assert holds(sample.do, count=0)


def test_arguments_are_those_that_the_worker_gets(on, holds):
    """Expected values pass the codec: tuples are lists, a timedelta stays a timedelta, a number is no text."""
    on(sample.do).enqueue("x", (1, (2, 3)), timedelta(hours=1))
    assert holds(sample.do, ["x", (1, (2, 3)), timedelta(hours=1)])
    assert holds(sample.do, ("x", [1, [2, 3]], timedelta(hours=1)))
    assert not holds(sample.do, ["x", (1, (2, "3")), timedelta(hours=1)])


def test_expected_values_may_compare_by_themselves(on, holds):
    """``mock.ANY`` and ``pytest.approx`` stand for values that a test cannot know."""
    on(sample.do).enqueue("x", {"at": 0.1 + 0.2, "id": 17})
    assert holds(sample.do, ["x", {"at": pytest.approx(0.3), "id": ANY}])
    assert holds(sample.do, [ANY, ANY])
    assert not holds(sample.do, ["x", {"at": pytest.approx(0.4), "id": ANY}])


def test_what_has_run_is_not_queued(database, on, holds):
    """A scheduled job is queued; one that has run is not, nor one that was cancelled."""
    on(sample.add).using(run_after=timedelta(hours=1)).enqueue(1)
    [found] = assert_enqueued(sample.add, backend=database)
    assert found.state is JobState.SCHEDULED
    found.cancel()
    on(sample.add).enqueue(2)
    assert len(run_jobs(backend=database)) == 1
    assert not holds(sample.add)
    assert_not_enqueued(sample.add, backend=database)


def test_the_jobs_found_are_returned(database, on):
    """The results come in the order of the enqueues, ready to be looked at."""
    ids = [on(sample.add).enqueue(n).id for n in (1, 2)]
    assert [result.id for result in assert_enqueued(sample.add, backend=database)] == ids


def test_a_task_may_be_named(on, holds):
    """By its registered name; a name that no app registers is an error, not a failure that nobody understands."""
    on(sample.add).enqueue(1)
    assert holds("tests.testing.sample.add")
    with pytest.raises(UnknownTask, match="ad' is unknown"):
        holds("tests.testing.sample.ad")
    with pytest.raises(TypeError, match="give a task"):
        holds(sample.add.func)


def test_a_failure_lists_what_is_there_nearest_first(database, on):
    """It says what was expected, then the jobs that come near, the same task and similar arguments first."""
    on(sample.do).enqueue("x")
    on(sample.send_mail).enqueue("bob@example.com", subject="no")
    on(sample.send_mail).enqueue("ann@example.org")
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(sample.send_mail, ["ann@example.com"], backend=database)
    first, title, *rest = str(caught.value).splitlines()
    assert first == "No job is queued as expected: tests.testing.sample.send_mail, args=['ann@example.com']."
    assert title == "What is queued, nearest first:"
    assert ["ann@example.org" in rest[0], "bob@example.com" in rest[1], "sample.do" in rest[2]] == [True] * 3
    assert "queue 'mail', priority 5, READY" in rest[0]


def test_a_wrong_count_marks_those_that_count(database, on):
    """It says how many were expected and found, and which."""
    on(sample.add).enqueue(1)
    on(sample.do).enqueue("x")
    with pytest.raises(AssertionError, match=r"Expected 2 jobs queued, found 1: .*add\.\n.*marks.*\n  = .*add\(1\)"):
        assert_enqueued(sample.add, count=2, backend=database)
    with pytest.raises(AssertionError, match="Expected no job queued, found 1"):
        assert_not_enqueued(sample.add, backend=database)


def test_a_long_list_is_cut(database, on):
    """Of a thousand jobs the nearest ten are shown."""
    on(sample.add).enqueue_many([(n,) for n in range(25)])
    with pytest.raises(AssertionError, match=r"\n    \.\.\. and 15 more") as caught:
        assert_enqueued(sample.do, backend=database)
    assert len(str(caught.value).splitlines()) == 13


def test_an_empty_queue_is_said_to_be_empty(database):
    """No list where there is nothing to list."""
    with pytest.raises(AssertionError, match="No job of any task is queued"):
        assert_enqueued(sample.add, backend=database)


@pytest.mark.parametrize(("args", "kwargs"), [("ab", None), (7, None), (None, ["a"])])
def test_arguments_that_are_none_are_refused(database, args, kwargs):
    """``args="ab"`` would be compared letter by letter: a TypeError says what to give."""
    with pytest.raises(TypeError, match=r"give a (list|dictionary)"):
        assert_enqueued(sample.add, args, kwargs, backend=database)


# --- capture ----------------------------------------------------------------------------------


def test_a_block_knows_what_was_enqueued_in_it(database, on):
    """Only that, in order, also what has run since; and it stops listening."""
    on(sample.add).enqueue(0)
    before = len(task_enqueued.receivers)
    with capture_enqueued() as captured:
        first, second = on(sample.add).enqueue(1), on(sample.do).enqueue("x")
    assert len(task_enqueued.receivers) == before
    on(sample.add).enqueue(3)
    assert [result.id for result in captured] == [first.id, second.id]
    assert [result.id for result in captured.of(sample.add)] == [first.id]
    run_jobs(backend=database, raise_failures=False)
    assert captured.assert_enqueued(sample.add, count=1)[0].id == first.id
    captured.assert_not_enqueued(sample.send_mail)
    with pytest.raises(AssertionError, match="No job is enqueued in this block as expected"):
        captured.assert_enqueued(sample.add, [3])


def test_what_was_rolled_back_does_not_count(database, on):
    """A job whose transaction was undone was never there, though ``enqueue()`` was called."""
    with capture_enqueued() as captured:
        on(sample.add).enqueue(1)
        with transaction.atomic(using=database):
            on(sample.add).enqueue(2)
            transaction.set_rollback(True, using=database)
    assert len(captured) == 2
    captured.assert_enqueued(sample.add, count=1)
    assert_enqueued(sample.add, count=1, backend=database)


@pytest.mark.parametrize("name", ["dummy.DummyBackend", "immediate.ImmediateBackend"])
def test_capturing_works_on_djangos_own_backends(settings, name):
    """Who tests with a stock backend can see what is enqueued; looking into the queue is refused, plainly."""
    settings.TASKS = {"default": {"BACKEND": f"{DIALECT}.backends.{name}", "QUEUES": []}}
    with capture_enqueued() as captured:
        sample.add.enqueue(1, b=2)
    captured.assert_enqueued(sample.add, [1], {"b": 2}, queue="default", count=1)
    with pytest.raises(UnusableForTests, match=r"assert_enqueued\(\): .*capture_enqueued\(\) works"):
        assert_enqueued(sample.add)
