"""``run_jobs``: what is queued runs as in a worker, inside the test's transaction, on the test's connection."""

import asyncio
import contextvars
import pickle
import threading
import time
from datetime import timedelta

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, connections, transaction
from django.utils import timezone, translation

from django_meanwhile import JobState, TaskTimeout, UnknownTask
from django_meanwhile.compat import TaskResultStatus, task_finished, task_started
from django_meanwhile.models import Attempt, Job
from django_meanwhile.store import get_store
from django_meanwhile.testing import JobFailed, TooManyRuns, UnusableForTests, interrupt_task, run_jobs
from tests.project.models import Mark
from tests.testing import sample

pytestmark = pytest.mark.django_db

KINDS = pytest.mark.parametrize(
    "task", [sample.add, sample.add_async, sample.add_in_process], ids=lambda task: task.name
)


@KINDS
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.django_db(transaction=True))])
def test_a_job_of_every_executor_runs(database, on, run, task, real):
    """Every kind of task comes back with state, value and attempts, with or without a transaction around it."""
    assert connections[database].in_atomic_block is not real
    queued = on(task).enqueue(2, b=3)
    [result] = run()
    assert (result.id, result.state, result.return_value) == (queued.id, JobState.SUCCESSFUL, 5)
    assert (result.status, result.attempts, result.errors) == (TaskResultStatus.SUCCESSFUL, 1, [])
    assert run() == [], "it runs once"


def test_the_best_comes_first_over_all_queues_and_executors(on, run):
    """Jobs run by priority, then in the order in which they were enqueued, whatever their queue and executor."""
    results = [
        on(task).using(priority=priority, queue_name=queue).enqueue(1)
        for task, priority, queue in [
            (sample.add, 0, "a"),
            (sample.add_async, 10, "b"),
            (sample.add_in_process, 0, "b"),
            (sample.add, 10, "c"),
            (sample.add, -10, "a"),
        ]
    ]
    order = [results[place].id for place in (1, 3, 0, 2, 4)]
    assert [result.id for result in run()] == order


def test_arguments_and_values_pass_through_the_codec(bodies, on, run):
    """The body gets what a row can carry (a tuple is a list by then), and its value is read back from the row."""
    got = []
    bodies["x"] = lambda *args: got.append(args) or (1, timedelta(hours=1))
    on(sample.do).enqueue("x", (1, 2))
    [result] = run()
    assert got == [([1, 2],)]
    assert result.return_value == [1, timedelta(hours=1)]


def test_a_value_that_no_row_can_carry_fails_the_job(bodies, on, run):
    """A return value is encoded: what would fail in production fails here."""
    bodies["x"] = object
    on(sample.do).enqueue("x")
    with pytest.raises(JobFailed, match="EncodingError"):
        run()


def test_jobs_enqueued_by_jobs_run_too(bodies, on, run):
    """A chain of jobs runs to its end in one call."""
    bodies["x"] = lambda n: on(sample.do).enqueue("x", n - 1) and n if n else 0
    on(sample.do).enqueue("x", 3)
    assert [result.return_value for result in run()] == [3, 2, 1, 0]


def test_an_endless_chain_ends_with_an_error(bodies, on, run):
    """Jobs that enqueue one another for ever are stopped at the limit, which the error names with the task."""
    bodies["x"] = lambda: on(sample.do).enqueue("x") and None
    on(sample.do).enqueue("x")
    with pytest.raises(TooManyRuns, match=r"limit=7.*after 7 runs.*tests\.testing\.sample\.do"):
        run(limit=7)


def test_only_the_chosen_tasks_run(database, bodies, on, run):
    """``tasks`` leaves all others where and as they were, also those that stand before them in the queue."""
    bodies["x"] = lambda: list(Job.objects.using(database).order_by("id").values_list("state", flat=True))
    first, second, third = on(sample.add).enqueue(1), on(sample.do).enqueue("x"), on(sample.send_mail).enqueue(1)
    [result] = run(tasks=sample.do)
    assert result.id == second.id
    assert result.return_value == [JobState.READY, JobState.RUNNING, JobState.READY], "while the body runs, too"
    assert [result.id for result in run(tasks=["tests.testing.sample.send_mail"])] == [third.id]
    first.refresh()
    assert (first.state, first.attempts, first.attempt_log) == (JobState.READY, 0, [])
    assert not Attempt.objects.using(database).filter(job_id=first.id).exists()
    with pytest.raises(UnknownTask, match=r"'nobody'.*the task itself"):
        run(tasks=["nobody"])


def test_only_the_chosen_queues_run(on, run):
    """``queues`` leaves all others alone; one queue needs no list."""
    mail, other = on(sample.send_mail).enqueue("x"), on(sample.add).enqueue(1)
    assert [result.id for result in run(queues="mail")] == [mail.id]
    assert run(queues=["mail", "none"]) == []
    assert [result.id for result in run(queues=["default"])] == [other.id]


# --- failures ---------------------------------------------------------------------------------


def _no_luck(*_):
    raise ValueError("no luck")


async def _no_luck_async(*_):
    raise ValueError("no luck")


@pytest.mark.parametrize(("task", "body"), [(sample.do, _no_luck), (sample.ado, _no_luck_async)], ids=["def", "async"])
def test_a_failed_job_fails_the_test(bodies, on, run, task, body):
    """The error names task, arguments, reason and job; its cause is the exception itself; it has the traceback."""
    bodies["x"] = body
    queued = on(task).enqueue("x", 7)
    with pytest.raises(JobFailed) as caught:
        run()
    error = caught.value
    assert isinstance(error.__cause__, ValueError)
    assert f"in {body.__name__}" in error.traceback
    assert "no luck" in error.traceback
    first, second, *_ = str(error).splitlines()
    assert first == f"tests.testing.sample.{task.name}('x', 7) is FAILED: ValueError: no luck"
    assert second == f"  job {queued.id}, attempt 1 of 1"
    assert "raise_failures=False" in str(error)
    assert (error.result.id, error.result.state) == (queued.id, JobState.FAILED)
    again = pickle.loads(pickle.dumps(error))  # what Django's parallel runner does with it
    assert (str(again), again.result.id, again.traceback) == (str(error), queued.id, error.traceback)


def test_what_ran_before_a_failure_is_told(bodies, on, run):
    """The jobs that ran stand in the error; those behind the failed one are still queued."""
    bodies["x"] = _no_luck
    fine, _, behind = on(sample.add).enqueue(1), on(sample.do).enqueue("x"), on(sample.add).enqueue(2)
    with pytest.raises(JobFailed) as caught:
        run()
    assert [result.id for result in caught.value.results][:1] == [fine.id]
    assert len(caught.value.results) == 2
    behind.refresh()
    assert behind.state is JobState.READY


def test_failures_can_be_looked_at_instead(bodies, on, run):
    """With ``raise_failures=False`` a failed job is a result among others."""
    bodies["x"] = _no_luck
    on(sample.do).enqueue("x")
    on(sample.add).enqueue(1)
    failed, fine = run(raise_failures=False)
    assert (failed.state, fine.state) == (JobState.FAILED, JobState.SUCCESSFUL)
    assert failed.errors[0].exception_class is ValueError


def test_an_exit_fails_the_job_and_an_interrupt_ends_the_tests(bodies, on, run):
    """SystemExit is a failed attempt, as in a worker. KeyboardInterrupt is recorded as one, and then passed on."""

    def exits():
        raise SystemExit(3)

    def interrupts():
        raise KeyboardInterrupt

    bodies.update(x=exits, y=interrupts)
    on(sample.do).enqueue("x")
    [result] = run(raise_failures=False)
    assert result.errors[0].exception_class is SystemExit
    queued = on(sample.do).enqueue("y")
    with pytest.raises(KeyboardInterrupt):
        run(raise_failures=False)
    queued.refresh()
    assert queued.state is JobState.FAILED


def test_a_job_without_code_is_an_error(database, on, run):
    """A row whose task is unknown is given back, and the test told: nothing hides it, and no time is travelled."""
    queued = on(sample.add).enqueue(1)
    Job.objects.using(database).update(task="nobody.knows.it")
    with pytest.raises(UnknownTask, match=r"nobody\.knows\.it"):
        run(travel=True, raise_failures=False)
    assert Job.objects.using(database).get().attempts == 0
    assert str(Job.objects.using(database).get().id) == queued.id


# --- as in a worker ---------------------------------------------------------------------------


def test_bodies_meet_the_surroundings_of_their_enqueuer(bodies, on, run):
    """Language and time zone are those at the enqueue, and what a body sets ends with it."""
    seen = []

    def look():
        seen.append((translation.get_language(), timezone.get_current_timezone_name()))
        translation.activate("fr")

    bodies["x"] = look
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        on(sample.do).enqueue("x")
    run()
    assert seen == [("de", "Asia/Tokyo")]
    assert translation.get_language() != "fr"


@pytest.mark.parametrize("task", [sample.do, sample.ado], ids=["def", "async"])
def test_bodies_have_a_context_of_their_own(bodies, on, run, task):
    """A context variable of the test is not seen by a body, and one that a body sets ends with it: as in a worker."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def look():
        seen.append(variable.get())
        variable.set("by the body")

    async def alook():
        look()

    bodies["x"] = look if task is sample.do else alook
    variable.set("by the test")
    on(task).enqueue("x")
    on(task).enqueue("x")
    run()
    assert (seen, variable.get()) == (["unset", "unset"], "by the test")


def test_an_outcome_that_the_database_refuses_breaks_nothing(database, bodies, on, run):
    """It is recorded as a failed attempt, as by a worker; the test's transaction goes on. (SQLite refuses nothing.)"""

    def fills_up():
        Job.objects.using(database).update(interruptions=2**31 - 1)

    bodies["x"] = fills_up
    on(sample.do).enqueue("x")
    on(sample.add).enqueue(1)
    with interrupt_task(sample.do, after_body=True):
        results = run(raise_failures=False, limit=5) if database == "postgresql" else run(tasks=sample.do)
    if database == "postgresql":
        assert [result.state for result in results] == [JobState.FAILED, JobState.SUCCESSFUL]
        assert "could not be stored" in results[0].errors[0].traceback


def test_signals_are_sent_as_a_worker_sends_them(bodies, on, run):
    """task_started for each run, task_finished once, at the end, with what the job became."""
    told = []

    def started(sender, task_result, **_):
        told.append(("started", sender.__name__, task_result.attempts))

    def finished(sender, task_result, **_):
        told.append(("finished", sender.__name__, task_result.attempts, task_result.state))

    task_started.connect(started)
    task_finished.connect(finished)
    try:
        bodies["x"] = _no_luck
        on(sample.retried).enqueue("x")
        run(travel=True, raise_failures=False)
    finally:
        task_started.disconnect(started)
        task_finished.disconnect(finished)
    begun = [("started", "DatabaseBackend", n) for n in (1, 2, 3)]
    assert told == [*begun, ("finished", "DatabaseBackend", 3, JobState.FAILED)]


def test_a_body_works_on_the_tests_data(database, bodies, on, run):
    """A body sees what the test has written and not committed, and the test sees what the body wrote; async, too."""

    def body():
        Mark.objects.using(database).create(text="by the body")
        return Mark.objects.using(database).count()

    async def abody():
        await Mark.objects.using(database).acreate(text="by the coroutine")
        return await Mark.objects.using(database).acount()

    bodies.update(x=body, y=abody)
    Mark.objects.using(database).create(text="by the test")
    on(sample.do).enqueue("x")
    on(sample.ado).enqueue("y")
    assert [result.return_value for result in run()] == [2, 3]
    assert Mark.objects.using(database).count() == 3


def test_a_database_error_does_not_break_the_tests_transaction(database, bodies, on, run):
    """A body that ends with a database error, caught or not, leaves the test's transaction in working order."""

    def uncaught():
        connections[database].cursor().execute("SELECT * FROM no_such_table")

    def caught():
        with pytest.raises(DatabaseError):
            uncaught()

    bodies.update(x=uncaught, y=caught)
    on(sample.do).enqueue("x")
    on(sample.do).enqueue("y")
    results = run(raise_failures=False)
    assert [result.state for result in results] == [JobState.FAILED, JobState.SUCCESSFUL]
    assert Job.objects.using(database).count() == 2


def test_a_broken_transaction_of_the_body_is_its_own(database, bodies, on, run):
    """``set_rollback`` in a body undoes the body's writes, not the test's."""

    def gives_up():
        Mark.objects.using(database).create(text="undone")
        transaction.set_rollback(True, using=database)

    bodies["x"] = gives_up
    Mark.objects.using(database).create(text="kept")
    on(sample.do).enqueue("x")
    run()
    assert [mark.text for mark in Mark.objects.using(database).all()] == ["kept"]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_a_body_leaves_open_is_rolled_back(database, bodies, on, run):
    """As in a worker: nothing of it stays, and the test's connection is as it was."""

    def leaves_it_open():
        transaction.set_autocommit(False, using=database)
        Mark.objects.using(database).create(text="never committed")

    bodies["x"] = leaves_it_open
    on(sample.do).enqueue("x")
    [result] = run()
    assert result.state is JobState.SUCCESSFUL
    assert transaction.get_autocommit(using=database)
    assert not Mark.objects.using(database).exists()


def test_callbacks_of_bodies_run(database, bodies, on, run):
    """``on_commit()`` in a body runs with the body, as in a worker; the test's own callbacks wait for the test."""
    called = []

    def body():
        with transaction.atomic(using=database, durable=True):
            transaction.on_commit(lambda: called.append("body"), using=database)
            transaction.on_commit(lambda: on(sample.add).enqueue(1), using=database)

    bodies["x"] = body
    transaction.on_commit(lambda: called.append("test"), using=database)
    on(sample.do).enqueue("x")
    assert len(run()) == 2, "the job that the callback enqueued ran as well"
    assert called == ["body"]


def test_a_callback_that_raises_fails_the_attempt(database, bodies, on, run):
    """What an ``on_commit()`` callback raises reaches the body in a worker; a robust one is only logged."""
    bodies["x"] = lambda: transaction.on_commit(_no_luck, using=database)
    bodies["y"] = lambda: transaction.on_commit(_no_luck, using=database, robust=True)
    on(sample.do).enqueue("x")
    on(sample.do).enqueue("y")
    assert [result.state for result in run(raise_failures=False)] == [JobState.FAILED, JobState.SUCCESSFUL]


def test_it_works_while_callbacks_are_captured(database, bodies, on, run, django_capture_on_commit_callbacks):
    """Inside ``captureOnCommitCallbacks`` jobs run, and their callbacks run once."""
    called = []
    bodies["x"] = lambda: transaction.on_commit(lambda: called.append(1), using=database)
    with django_capture_on_commit_callbacks(using=database, execute=True):
        on(sample.do).enqueue("x")
        run()
        assert called == [1]
    assert called == [1]


def test_a_deadline_sets_the_flag(bodies, on, run):
    """A body that looks at its context is stopped at its timeout; a coroutine is cancelled; both are a TaskTimeout."""

    def waits(context):
        for _ in range(2000):
            context.raise_if_stopped()
            time.sleep(0.005)

    async def awaits():
        await asyncio.sleep(10)
        slept.append(1)

    slept = []
    bodies.update(x=waits, y=awaits)
    on(sample.listens).enqueue("x")
    on(sample.alistens).enqueue("y")
    results = run(raise_failures=False)
    assert not slept, "it was cancelled, not only told off afterwards"
    assert [result.errors[0].exception_class for result in results] == [TaskTimeout, TaskTimeout]
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def test_every_run_has_an_epoch_of_its_own(bodies, on, run):
    """A body that has its job cancelled while it runs and fails is not run again: the real statements decide."""

    def cancels():
        queued.cancel()
        raise ValueError("and fails")

    bodies["x"] = cancels
    queued = on(sample.retried).enqueue("x")
    [result] = run(travel=True)
    assert (result.state, result.attempts) == (JobState.CANCELLED, 1)


# --- time travel ------------------------------------------------------------------------------


def test_a_retry_waits_unless_time_is_travelled(bodies, on, run):
    """By default a job that failed and may be retried is SCHEDULED; with ``travel`` it runs to its end."""
    answers = iter([ValueError("one"), ValueError("two"), "three"])

    def body():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bodies["x"] = body
    on(sample.retried).enqueue("x")
    [result] = run()
    assert (result.state, result.attempts) == (JobState.SCHEDULED, 1)
    assert run() == []
    [result] = run(travel=True)
    assert (result.state, result.attempts, result.return_value) == (JobState.SUCCESSFUL, 3, "three")
    assert ["one" in result.errors[0].traceback, "two" in result.errors[1].traceback] == [True, True]


def test_travelling_goes_no_further_than_told(on, run):
    """``travel=timedelta`` runs what is due by then, in the order of the due times, and nothing later."""
    late = on(sample.add).using(run_after=timedelta(hours=3)).enqueue(3)
    soon = on(sample.add).using(run_after=timedelta(hours=1)).enqueue(1)
    dated = on(sample.add).using(run_after=timezone.now() + timedelta(hours=2)).enqueue(2)
    assert run() == []
    assert [result.id for result in run(travel=timedelta(hours=2, minutes=1))] == [soon.id, dated.id]
    late.refresh()
    assert late.state is JobState.SCHEDULED
    assert [result.id for result in run(travel=True)] == [late.id]


def test_travel_over_years(on, run):
    """A job of the next decade is one jump away, and the worker's lease does not end on the way."""
    on(sample.add).using(run_after=timedelta(days=3650)).enqueue(1)
    assert len(run(travel=True)) == 1


def test_retry_after_is_honoured(on, run):
    """``raise Retry(after=...)`` is due then: not before, and not much later."""
    on(sample.asks_again).enqueue(5)
    assert len(run(travel=timedelta(hours=4), raise_failures=False)) == 1
    assert run(travel=timedelta(hours=4)) == []
    [result] = run(travel=timedelta(hours=6), raise_failures=False)
    assert (result.attempts, result.state) == (2, JobState.FAILED)


def test_the_real_clock_is_back_afterwards(database, on, run):
    """Whatever happens while travelling, the clock is right again."""
    on(sample.asks_again).enqueue(1)
    with pytest.raises(JobFailed):
        run(travel=True)
    assert abs((get_store(database).now() - timezone.now()).total_seconds()) < 60


# --- refusals ---------------------------------------------------------------------------------


def test_other_backends_are_refused(settings):
    """A backend that keeps no jobs is named, with what to write."""
    dialect = "django.tasks" if hasattr(settings, "TASKS") and _has_django_tasks() else "django_tasks"
    settings.TASKS = {"default": {"BACKEND": f"{dialect}.backends.dummy.DummyBackend"}}
    with pytest.raises(UnusableForTests, match=r'TASKS\["default"\] is .*DummyBackend.*DatabaseBackend'):
        run_jobs()


def _has_django_tasks() -> bool:
    import django

    return django.VERSION >= (6, 0)


def test_async_code_is_told_of_the_twin():
    """``run_jobs()`` on an event loop says what to write."""

    async def wrong():
        run_jobs()

    with pytest.raises(SynchronousOnlyOperation, match="await arun_jobs"):
        asyncio.run(wrong())
