"""From a call to a row: what is stored, what is refused, and what follows the commit."""

import datetime as dt
import json
import logging
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from django_meanwhile.compat import InvalidTask, TaskResultStatus, task_enqueued
from django_meanwhile.core.codec import decode_arguments
from django_meanwhile.core.errors import EncodingError
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.states import JobState
from django_meanwhile.models import Job
from django_meanwhile.store import wake
from django_meanwhile.surroundings import capture
from django_meanwhile.tasks.task import Task

from .lifecycle import rolled_back
from .sample import plain
from .sample.tasks import Holder, add, anything, fetch, report, shown

DAY = dt.date(2026, 2, 3)


def outside():
    """A function of a module that no app owns."""


def stored(result, database):
    """Return the row of a result."""
    return Job.objects.using(database).get(pk=result.id)


@pytest.fixture
def sent():
    """The results that ``task_enqueued`` was sent with."""
    results = []

    def receive(sender, task_result, **_):
        results.append((sender, task_result))

    task_enqueued.connect(receive)
    yield results
    task_enqueued.disconnect(receive)


@pytest.fixture
def announced(monkeypatch):
    """The (alias, queues) that workers were woken for."""
    calls = []
    monkeypatch.setattr(wake, "announce", lambda alias, queues: calls.append((alias, list(queues))))
    return calls


# --- what is stored -------------------------------------------------------------------------


def test_the_row_of_a_plain_call(database):
    """A call is one READY row with its name, its route and its arguments."""
    result = add.using(backend=database).enqueue(1, y=2)
    job = stored(result, database)
    assert (job.task, job.backend, job.queue, job.executor, job.rank) == (
        "tests.tasks.sample.tasks.add",
        database,
        "default",
        "thread",
        0,
    )
    assert (job.state, job.epoch, job.attempts, job.retry_on_crash) == (JobState.READY, 0, 0, True)
    assert decode_arguments(job.arguments) == ([1], {"y": 2})
    assert job.overrides == "{}"
    assert job.pk == UUID(result.id)
    assert job.pk.version == 7


def test_the_row_of_a_task_with_every_option(database):
    """Queue, executor, rank and on_crash are in the row; what only code decides is not."""
    job = stored(report.using(backend=database).enqueue({"a": [1]}, day=DAY), database)
    assert (job.task, job.queue, job.executor, job.rank) == ("sample.report", "reports", "process", -7)
    assert job.retry_on_crash is False
    assert job.overrides == "{}"
    assert decode_arguments(job.arguments) == ([{"a": [1]}], {"day": DAY})


def test_the_row_carries_what_using_changed(database):
    """Overrides are stored as JSON, and the columns that the claim reads follow them."""
    task = report.using(
        backend=database, priority=-3, queue_name="q", executor="thread", timeout=1.5, max_attempts=2, metadata={"a": 1}
    )
    job = stored(task.enqueue({}), database)
    assert (job.queue, job.executor, job.rank) == ("q", "thread", 3)
    assert json.loads(job.overrides) == {
        "priority": -3,
        "queue_name": "q",
        "executor": "thread",
        "timeout": 1.5,
        "max_attempts": 2,
        "metadata": {"a": 1},
    }


def test_an_async_task_goes_to_the_event_loop(database):
    """The row of an ``async def`` names the executor that can run it."""
    assert stored(fetch.using(backend=database).enqueue("u"), database).executor == "asyncio"


def test_due_times(database):
    """A datetime or a timedelta to come is SCHEDULED; one that has passed is READY."""
    task = add.using(backend=database)
    moment = timezone.now() + dt.timedelta(hours=2)
    for late, due in (
        (task.using(run_after=moment), moment),
        (task.using(run_after=dt.timedelta(hours=2)), moment),
        (task.using(run_after=moment.astimezone(ZoneInfo("Asia/Kathmandu"))), moment),
    ):
        result = late.enqueue(1)
        job = stored(result, database)
        assert (result.state, result.status) == (JobState.SCHEDULED, TaskResultStatus.READY)
        assert job.state == JobState.SCHEDULED
        assert abs(job.due_at - due) < dt.timedelta(minutes=1)
    for early in (dt.timedelta(seconds=-5), dt.timedelta(0), timezone.now() - dt.timedelta(days=1)):
        assert task.using(run_after=early).enqueue(1).state is JobState.READY


def test_a_timedelta_counts_from_each_enqueue(database):
    """A task kept with ``run_after=timedelta`` is due that long after each enqueue, by the database's clock."""
    later = add.using(backend=database, run_after=dt.timedelta(minutes=5))
    first, second = (stored(later.enqueue(1), database) for _ in range(2))
    for job in (first, second):
        assert abs(job.due_at - job.enqueued_at - dt.timedelta(minutes=5)) < dt.timedelta(milliseconds=50)
    assert second.due_at >= first.due_at


def test_naive_times_without_time_zones(database, settings):
    """With USE_TZ off, a naive datetime is local time, and is stored as the moment it means."""
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Kathmandu"
    moment = dt.datetime(2030, 1, 1, 12, 0)
    result = add.using(backend=database, run_after=moment).enqueue(1)
    assert stored(result, database).due_at == moment
    assert result.enqueued_at.tzinfo is None
    settings.USE_TZ = True
    assert stored(result, database).due_at == dt.datetime(2030, 1, 1, 6, 15, tzinfo=dt.UTC)


def test_values_that_are_no_json_come_through(database):
    """Arguments come out with their types; a tuple comes out as a list, as in JSON."""
    values = [Decimal("1.50"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), UUID(int=3), b"\0\xff", DAY]
    result = anything.using(backend=database).enqueue(*values, pair=(1, 2))
    assert result.args == values
    assert result.kwargs == {"pair": [1, 2]}
    again = anything.get_result(result.id) if database == "default" else result
    assert (again.args, again.kwargs) == (values, {"pair": [1, 2]})


def test_the_result_does_not_follow_the_callers_objects(database):
    """A list that the caller changes after the enqueue does not change the result."""
    given = [1, {"a": []}]
    result = anything.using(backend=database).enqueue(given)
    given[1]["a"].append("later")
    assert result.args == [[1, {"a": []}]]


def test_the_result_of_enqueue(database):
    """The result is Django's READY one: known id, the task that was given, nothing run yet."""
    task = add.using(backend=database)
    result = task.enqueue(1)
    assert result.task is task
    assert (result.status, result.state, result.backend) == (TaskResultStatus.READY, JobState.READY, database)
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids, result.attempts, result.progress) == ([], [], 0, None)
    assert abs(result.enqueued_at - timezone.now()) < dt.timedelta(minutes=1)
    assert not result.is_finished


def test_ids_sort_by_enqueue(database):
    """Ids of one process increase, so equal priorities run in the order of enqueue."""
    ids = [add.using(backend=database).enqueue(n).id for n in range(20)]
    assert ids == sorted(ids)


def test_one_statement(database):
    """An enqueue is one INSERT, with nothing before it."""
    with transaction.atomic(using=database):
        add.using(backend=database).enqueue(1)  # what is asked once in a while has been asked
        with CaptureQueriesContext(connections[database]) as queries:
            add.using(backend=database).enqueue(1)
    assert len(queries) == 1
    assert "INSERT INTO" in queries[0]["sql"]


def test_plain_tasks_of_django(database):
    """A task of Django's own decorator is enqueued by our backend with default options."""
    job = stored(plain.plain.using(backend=database).enqueue(3), database)
    assert (job.task, job.executor) == ("tests.tasks.sample.plain.plain", "thread")


@pytest.mark.parametrize("task", [shown, Holder.inner], ids=["other name", "static method"])
def test_tasks_in_unusual_places(database, task):
    """Whatever a worker finds by the stored name can be enqueued."""
    assert stored(task.using(backend=database).enqueue(*([1] if task is shown else [])), database).task == (
        task.module_path
    )


# --- language and time zone -----------------------------------------------------------------


def test_language_and_time_zone_are_captured(database):
    """The row names the language and the time zone in force at the call."""
    with translation.override("de"), timezone.override(ZoneInfo("Asia/Kathmandu")):
        result = add.using(backend=database).enqueue(1)
    assert json.loads(stored(result, database).context) == {"language": "de", "time_zone": "Asia/Kathmandu"}


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (dt.UTC, "UTC"),
        (timezone.get_fixed_timezone(120), "Etc/GMT-2"),
        (timezone.get_fixed_timezone(-300), "Etc/GMT+5"),
        (timezone.get_fixed_timezone(330), None),
        (ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
    ],
)
def test_time_zones_are_named_so_that_they_mean_the_same(zone, name):
    """The stored name is a zone with the same offset, or left out where there is none."""
    with timezone.override(zone):
        assert json.loads(capture("a.task")).get("time_zone") == name
    if name and name.startswith("Etc"):
        moment = dt.datetime(2026, 1, 1)
        assert ZoneInfo(name).utcoffset(moment) == zone.utcoffset(moment)


def test_deactivated_translations_are_no_language():
    """Where translations are off, no language is stored."""
    with translation.override(None):
        assert "language" not in json.loads(capture("a.task"))


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_a_row_cannot_carry():
    """An argument that cannot be stored is refused with its name and the fix, and nothing is written."""
    with pytest.raises(EncodingError, match=r"add: argument 'x'.*set.*Pass sorted\(value\)"):
        add.enqueue({1, 2})
    with pytest.raises(EncodingError, match="argument y"):
        add.enqueue(1, y=[object()])
    with pytest.raises(EncodingError, match=r"a model instance.*Pass the primary key"):
        add.enqueue(Job(pk=UUID(int=1)))
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_functions_that_no_worker_could_find(settings):
    """A task outside installed apps is refused with both ways out."""
    settings.MEANWHILE = {}
    with pytest.raises(InvalidTask, match=r"belongs to no installed app.*\"TASK_MODULES\": \[\"tests.tasks.test_enq"):
        Task(func=outside).enqueue()
    settings.MEANWHILE = {"TASK_MODULES": ["tests.tasks.test_enqueue"]}
    with pytest.raises(InvalidTask, match="its module holds no such task"):
        Task(func=outside).enqueue()


@pytest.mark.django_db
def test_a_name_that_no_worker_could_know(settings):
    """A task with a name of its own must stand where every worker looks."""
    settings.MEANWHILE = {}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.tasks"]
    with pytest.raises(InvalidTask, match=r"none imports module 'tests.tasks.sample.tasks' by itself"):
        report.enqueue({})
    assert add.enqueue(1).status == TaskResultStatus.READY


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("many", [False, True])
def test_in_async_code(many):
    """``enqueue`` inside a coroutine says what to write instead."""

    async def view():
        return add.enqueue_many([(1,), (2,)]) if many else add.enqueue(1)

    with pytest.raises(SynchronousOnlyOperation, match=r"tasks.add: enqueue\(\) waits.*await add.aenqueue"):
        async_to_sync(view)()


# --- many -----------------------------------------------------------------------------------


def test_enqueue_many(database):
    """Tuples and dictionaries become jobs in their order, in one statement."""
    task = add.using(backend=database)
    with CaptureQueriesContext(connections[database]) as queries:
        results = task.enqueue_many([(1,), (2, 3), {"x": 4}, {"x": 5, "y": 6}])
    assert [(r.args, r.kwargs) for r in results] == [
        ([1], {}),
        ([2, 3], {}),
        ([], {"x": 4}),
        ([], {"x": 5, "y": 6}),
    ]
    assert [r.id for r in results] == sorted(r.id for r in results)
    assert Job.objects.using(database).count() == 4
    assert sum("INSERT INTO" in query["sql"] for query in queries) == 1


def test_enqueue_many_is_all_or_none(database):
    """One call that cannot be keeps all from being written."""
    task = add.using(backend=database)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        task.enqueue_many([(1,), {"x": 1, "z": 2}])
    with pytest.raises(EncodingError):
        task.enqueue_many([(n,) for n in range(100)] + [(object(),)])
    assert not Job.objects.using(database).exists()


def test_enqueue_many_over_several_batches(database):
    """More calls than a statement holds are still written together."""
    results = add.using(backend=database).enqueue_many((n,) for n in range(2500))
    assert Job.objects.using(database).count() == len({r.id for r in results}) == 2500


@pytest.mark.django_db(transaction=True)
def test_enqueue_many_is_all_or_none_over_several_batches(database, monkeypatch):
    """Outside of any transaction too, a row that the database refuses keeps all from being written."""
    first, *others = [uuid7() for _ in range(2499)]
    made = iter([first, *others, first])
    monkeypatch.setattr("django_meanwhile.tasks.enqueue.uuid7", lambda: next(made))
    with pytest.raises(IntegrityError):
        add.using(backend=database).enqueue_many([(n,) for n in range(2500)])
    assert not Job.objects.using(database).exists()


@pytest.mark.django_db
def test_enqueue_many_of_nothing():
    """No call, no job."""
    assert add.enqueue_many([]) == []


@pytest.mark.parametrize("call", [7, "ab", [1], None])
def test_enqueue_many_refuses_other_shapes(call):
    """A call that is neither tuple nor dictionary is refused, naming the first such one."""
    with pytest.raises(
        TypeError, match=rf"call 1 of enqueue_many\(\) is of type {type(call).__name__}: each must be a tuple"
    ):
        add.enqueue_many([(1,), call])


@pytest.mark.parametrize("calls", [1, None, "ab", {"x": 1}])
def test_enqueue_many_refuses_what_is_no_list_of_calls(calls):
    """One value in place of the list is refused with the line to write, a text and a dictionary too."""
    with pytest.raises(
        TypeError, match=rf"tasks\.add: .* value of type {type(calls).__name__}\. Write add\.enqueue_many\(\[\(1,\), "
    ):
        add.enqueue_many(calls)


@pytest.mark.django_db(transaction=True)
def test_the_async_twins(database):
    """``aenqueue`` and ``aenqueue_many`` write what their twins write."""

    async def view():
        task = add.using(backend=database)
        one = await task.aenqueue(1, y=2)
        return [one, *await task.aenqueue_many([(3,)])]

    results = async_to_sync(view)()
    assert [(r.args, r.kwargs) for r in results] == [([1], {"y": 2}), ([3], {})]
    assert Job.objects.using(database).count() == 2


@pytest.mark.django_db(transaction=True)
def test_async_enqueue_joins_the_callers_transaction(database):
    """``aenqueue`` under a sync caller's ``atomic()`` runs on the caller's connection, and rolls back with it."""

    async def view():
        return await add.using(backend=database).aenqueue(1)

    with rolled_back(database):
        async_to_sync(view)()
        assert Job.objects.using(database).count() == 1
    assert not Job.objects.using(database).exists()

    @sync_to_async
    def block():
        with transaction.atomic(using=database):
            add.using(backend=database).enqueue(1)

    async_to_sync(block)()
    assert Job.objects.using(database).count() == 1


# --- what follows ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_after_the_commit(database, announced):
    """A ready job wakes workers once it is committed: not before, and not if it is rolled back."""
    task = add.using(backend=database, queue_name="mail")
    task.enqueue(1)
    assert announced == [(database, ["mail"])]
    with transaction.atomic(using=database):
        task.enqueue(1)
        assert len(announced) == 1
    assert len(announced) == 2
    with rolled_back(database):
        task.enqueue(1)
    assert len(announced) == 2


@pytest.mark.django_db(transaction=True)
def test_nobody_is_woken_for_a_job_that_is_not_due(database, announced):
    """A scheduled job wakes nobody."""
    add.using(backend=database, run_after=dt.timedelta(hours=1)).enqueue(1)
    assert not announced


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_that_fails_changes_nothing(database, monkeypatch, caplog):
    """An exception after the commit is logged, and the enqueue has succeeded."""

    def fail(*_):
        raise RuntimeError("no wake-up")

    monkeypatch.setattr(wake, "announce", fail)
    with caplog.at_level(logging.ERROR):
        with transaction.atomic(using=database):
            result = add.using(backend=database).enqueue(1)
        second = add.using(backend=database).enqueue(1)
    assert {result.id, second.id} == {str(pk) for pk in Job.objects.using(database).values_list("pk", flat=True)}
    assert "no wake-up" in caplog.text


def test_the_signal(database, sent):
    """``task_enqueued`` is sent once for each job, by the backend's class, with the result."""
    from django_meanwhile.tasks.backend import DatabaseBackend

    results = [add.using(backend=database).enqueue(1), *add.using(backend=database).enqueue_many([(2,), (3,)])]
    assert sent == [(DatabaseBackend, result) for result in results]


@pytest.mark.django_db
def test_a_receiver_that_raises_changes_nothing(caplog):
    """A broken receiver costs neither the job nor the other receivers."""

    def broken(**_):
        raise RuntimeError("receiver")

    task_enqueued.connect(broken)
    try:
        result = add.enqueue(1)
    finally:
        task_enqueued.disconnect(broken)
    assert Job.objects.filter(pk=result.id).exists()
    assert "receiver" in caplog.text
