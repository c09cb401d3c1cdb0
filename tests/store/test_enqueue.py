"""What ``enqueue`` promises."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import IntegrityError, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_meanwhile.core.states import Executor, JobState

READY, SCHEDULED = JobState.READY, JobState.SCHEDULED


def test_a_job_without_a_due_time_is_ready_at_once(scene, store):
    """A new row is READY, untouched by any run, and carries what it was given."""
    job = scene.new(
        queue="mail", executor=Executor.PROCESS, rank=-7, retry_on_crash=False, overrides='{"a": 1}', context='{"b": 2}'
    )
    before = store.now()
    (enqueued,) = store.enqueue([job])
    row = scene.row(job.id)
    assert (enqueued.id, enqueued.state) == (job.id, READY)
    assert before <= enqueued.enqueued_at == row.enqueued_at <= store.now()
    assert (row.task, row.backend, row.queue, row.executor, row.rank) == (job.task, "default", "mail", "process", -7)
    assert (row.arguments, row.overrides, row.context) == ("[1, 2]", '{"a": 1}', '{"b": 2}')
    assert (row.retry_on_crash, row.suspect, row.epoch, row.result, row.progress) == (False, False, 0, None, None)
    assert (row.attempts, row.crashes, row.interruptions, row.deaths) == (0, 0, 0, 0)
    assert {row.worker_id, row.last_worker_id, row.due_at, row.started_at, row.attempted_at, row.finished_at} == {None}


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(-86_400, READY), (-0.5, READY), (1.5, SCHEDULED), (86_400, SCHEDULED)],
)
def test_a_due_time_decides_by_the_databases_clock(scene, store, seconds, state):
    """The past is READY, the future SCHEDULED; the due time is kept, from whatever zone it came."""
    due = store.now() + timedelta(seconds=seconds)
    job = scene.new(due_at=due.astimezone(timezone(timedelta(hours=-9))))
    assert store.enqueue([job])[0].state is state
    assert abs(scene.row(job.id).due_at - due) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("delay", "state"),
    [(0, READY), (-5, READY), (float("nan"), READY), (0.5, SCHEDULED), (3600, SCHEDULED), (1e300, SCHEDULED)],
)
def test_a_delay_counts_from_the_databases_clock(scene, store, delay, state):
    """A delay that no database can add to a time is cut, it does not fail the batch."""
    job = scene.new(delay=delay)
    (enqueued,) = store.enqueue([job])
    assert enqueued.state is state
    if delay == 3600:
        waiting = scene.row(job.id).due_at - enqueued.enqueued_at
        assert abs(waiting - timedelta(hours=1)) < timedelta(milliseconds=1)


def test_the_clock_can_be_moved_for_tests(scene):
    """``offset`` reaches every decision of ``enqueue``."""
    due = scene.store.now() + timedelta(hours=1)
    ahead = scene.at(7200)
    (enqueued,) = ahead.enqueue([scene.new(due_at=due)])
    assert enqueued.state is READY
    assert enqueued.enqueued_at > due


def test_many_jobs_come_back_in_the_given_order_from_few_statements(scene, store):
    """1,200 jobs are three statements; each result belongs to its job."""
    jobs = [scene.new(delay=3600 if number % 3 else None) for number in range(1200)]
    jobs.reverse()
    with CaptureQueriesContext(connections[scene.alias]) as queries:
        enqueued = store.enqueue(jobs)
    assert [item.id for item in enqueued] == [job.id for job in jobs]
    assert [item.state for item in enqueued] == [SCHEDULED if job.delay else READY for job in jobs]
    assert sum("INSERT" in query["sql"] for query in queries) == 3
    assert scene.states() == {item.id: item.state for item in enqueued}


def test_one_job_is_one_statement(scene, store):
    """Nothing is asked before the INSERT, and no transaction is begun around it."""
    with CaptureQueriesContext(connections[scene.alias]) as queries:
        store.enqueue([scene.new()])
    assert len(queries) == 1
    with CaptureQueriesContext(connections[scene.alias]) as queries:
        assert store.enqueue([]) == []
    assert len(queries) == 0


def test_a_rollback_takes_the_job_with_it(scene, store):
    """``enqueue`` joins the caller's transaction, also as a part of it (a savepoint)."""

    def fail_after_enqueue():
        with transaction.atomic(using=scene.alias):
            store.enqueue([scene.new() for _ in range(600)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_enqueue()
    with transaction.atomic(using=scene.alias):
        (kept,) = scene.enqueue()
        with pytest.raises(ZeroDivisionError):
            fail_after_enqueue()
    assert scene.states() == {kept: READY}


def test_nobody_sees_a_job_before_its_commit(scene):
    """A worker cannot claim, cancel or count what is not committed."""
    worker = scene.worker()
    with scene.actors(1) as (writer,):
        writer.begin()
        (job_id,) = writer.do(scene.enqueue)
        assert scene.claim(worker) == []
        assert scene.store.depths() == []
        writer.commit()
        assert [job.id for job in scene.claim(worker)] == [job_id]


def test_many_jobs_are_all_stored_or_none(scene, store):
    """Also where the caller has no transaction: a batch that fails takes the earlier ones with it."""
    jobs = [scene.new() for _ in range(1200)]
    with pytest.raises(IntegrityError):
        store.enqueue([*jobs, jobs[0]])
    assert scene.states() == {}


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "%s %(id)s %% {job} {{}}",
        "quotes ' \" ` \\ \\' -- ; /*",
        "línea\n\ttab €uro 漢字 🎉 \u2028",
        '["\\u0000 escaped", null, "NULL", "{}"]',
        "x" * 256 * 1024,
    ],
    ids=["plain", "percent", "quotes", "unicode", "escapes", "long"],
)
def test_texts_come_back_as_they_were(scene, store, text):
    """No text is taken for a part of the statement, from either of two ways to bind it."""
    worker = scene.worker()
    store.enqueue([scene.new(arguments=text, context=text[:1000], queue=text[:20])])
    (job,) = scene.claim(worker, queues=[text[:20]])
    assert (job.arguments, job.context, job.queue) == (text, text[:1000], text[:20])


def test_times_are_utc_wherever_the_caller_is(scene, store, settings):
    """Neither the project's time zone nor the connection's moves a stored time."""
    settings.TIME_ZONE = "Pacific/Kiritimati"  # UTC+14
    (job_id,) = scene.enqueue()
    assert abs(scene.row(job_id).enqueued_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=60)
