"""What ``claim`` promises, one claimer at a time. (Several at once: ``test_races``.)"""

from dataclasses import replace

import pytest
from django.db import connections

from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor, JobState
from django_meanwhile.models import Worker
from tests.store.scene import decision, ids, on_postgresql, on_sqlite

QUEUES = [
    pytest.param(["default"], id="one queue"),
    pytest.param(["default", "other", "default"], id="several"),
    pytest.param([], id="every queue"),
]


def test_a_claimed_job_carries_its_row(scene, store):
    """RUNNING, at the next epoch, charged with this attempt, held by the claimer."""
    worker = scene.worker()
    new = scene.new(
        rank=3, queue="mail", arguments="[3]", overrides='{"o": 1}', context='{"c": 1}', retry_on_crash=False
    )
    (enqueued,) = store.enqueue([new])
    (job,) = scene.claim(worker)
    row = scene.row(new.id)
    assert (job.id, job.epoch, job.worker_id, job.attempts) == (new.id, 1, worker, 1)
    assert (job.task, job.backend, job.queue, job.executor, job.rank) == (new.task, "default", "mail", new.executor, 3)
    assert (job.arguments, job.overrides, job.context) == ("[3]", '{"o": 1}', '{"c": 1}')
    assert (job.crashes, job.interruptions, job.deaths) == (0, 0, 0)
    assert (job.retry_on_crash, job.suspect, job.cancel_requested) == (False, False, False)
    assert job.enqueued_at == enqueued.enqueued_at
    assert job.enqueued_at <= job.started_at == job.attempted_at <= store.now()
    assert (row.state, row.worker_id, row.epoch, row.attempts) == (JobState.RUNNING, worker, 1, 1)
    assert (row.started_at, row.attempted_at, row.finished_at) == (job.started_at, job.attempted_at, None)


@pytest.mark.parametrize("queues", QUEUES)
def test_jobs_are_claimed_by_rank_then_in_order_of_their_making(scene, queues):
    """One order over all queues, whatever the number of queues and of claims."""
    worker = scene.worker()
    made = [
        (rank, job_id)
        for number in range(12)
        for rank in (0, 10, -10)
        for job_id in scene.enqueue(rank=rank, queue="default" if len(queues) == 1 or number % 2 else "other")
    ]
    claimed = [job for limit in (1, 5, 2, 100) for job in scene.claim(worker, limit, queues)]
    assert [(job.rank, job.id) for job in claimed] == sorted(made)


@pytest.mark.parametrize("queues", QUEUES)
def test_a_claim_takes_no_more_than_its_limit(scene, queues):
    """The rest stays READY; a limit of zero or less takes nothing."""
    worker = scene.worker()
    scene.enqueue(5, queue="default")
    scene.enqueue(5, queue="default" if len(queues) == 1 else "other")
    assert [len(scene.claim(worker, limit, queues)) for limit in (0, -1, 3, 3, 3, 3, 3)] == [0, 0, 3, 3, 3, 1, 0]


def test_a_claim_keeps_to_its_queues_and_executor(scene):
    """Jobs of other queues and executors are not touched."""
    worker = scene.worker()
    made = {
        (queue, executor): scene.enqueue(queue=queue, executor=executor)[0]
        for queue in ("a", "b", "c")
        for executor in Executor
    }
    assert ids(scene.claim(worker, queues=["a", "c"], executor=Executor.ASYNCIO)) == [
        made["a", Executor.ASYNCIO],
        made["c", Executor.ASYNCIO],
    ]
    assert ids(scene.claim(worker, queues=["b"])) == [made["b", Executor.THREAD]]
    assert ids(scene.claim(worker, executor=Executor.PROCESS)) == [made[queue, Executor.PROCESS] for queue in "abc"]
    assert scene.claim(worker, queues=["nobody's"]) == []


def test_hundreds_of_queues_are_claimed_in_one_order(scene, store):
    """More queues than one statement may name: the best jobs come first, though they lie in a few of the queues."""
    worker = scene.worker()
    names = [f"q{number}" for number in range(150)]
    jobs = [
        scene.new(queue=name, rank=number * 7 % 150 + more)
        for number, name in enumerate(names)
        for more in (0, 60, 120)
    ]
    store.enqueue(jobs)
    claimed = scene.claim(worker, 40, names)
    while more := scene.claim(worker, 400):
        claimed += more
    assert [(job.rank, job.id) for job in claimed] == sorted((job.rank, job.id) for job in jobs)


def test_work_that_is_not_due_is_not_claimed(scene, store):
    """SCHEDULED jobs wait for their promotion; terminal and RUNNING ones are over."""
    worker = scene.worker()
    for state in JobState:
        if state is not JobState.READY:
            scene.in_state(state)
    assert scene.claim(worker) == []
    assert scene.at(7200).promote() == {"default": 1}
    assert len(scene.claim(worker)) == 1


@pytest.mark.parametrize("condition", ["dead", "missing", "expired"])
@pytest.mark.parametrize("queues", QUEUES)
def test_only_a_living_worker_gets_jobs(scene, store, condition, queues):
    """A worker whose row is dead, missing or expired claims nothing and changes nothing."""
    worker = scene.worker()
    (job_id,) = scene.enqueue()
    if condition == "dead":
        store.bury([worker])
    elif condition == "missing":
        Worker.objects.using(scene.alias).filter(id=worker).delete()
    else:
        scene.lapse(worker, by=0.01)
    assert scene.claim(worker, queues=queues) == []
    row = scene.row(job_id)
    assert (row.state, row.epoch, row.attempts, row.worker_id) == (JobState.READY, 0, 0, None)
    assert len(scene.claim(scene.worker(), queues=queues)) == 1


def test_a_lease_is_judged_by_the_databases_clock(scene):
    """An offset, as a wrong host clock would be, moves claim and lease alike."""
    worker = scene.worker(lease=30)
    scene.enqueue()
    ahead = scene.at(31)
    assert ahead.claim(worker, Executor.THREAD, [], 1) == []
    assert ahead.renew([worker], 30) == {worker}
    assert len(ahead.claim(worker, Executor.THREAD, [], 1)) == 1


def test_each_claim_raises_the_epoch_and_keeps_the_first_start(scene):
    """``started_at`` is the first start, ``attempted_at`` the latest; attempts count begun runs."""
    first = scene.one()
    assert scene.end(first, End.FAILED, retry_in=0.0) is JobState.READY
    (second,) = scene.claim(scene.worker())
    assert (second.id, second.epoch, second.attempts) == (first.id, 2, 2)
    assert second.started_at == first.started_at
    assert second.attempted_at >= first.attempted_at
    assert second.attempted_at >= scene.attempts(first.id)[0].ended_at


@pytest.mark.parametrize("queues", QUEUES)
def test_suspects_are_claimed_when_asked_for_and_never_otherwise(scene, queues):
    """Normal claims skip them; a suspects' claim takes nothing else."""
    worker = scene.worker()
    normal, suspect, foreign = scene.enqueue(3)
    scene.set(suspect, suspect=True, rank=-50)
    scene.set(foreign, suspect=True, executor="process")
    assert ids(scene.claim(worker, queues=queues, suspects=True)) == [suspect]
    assert ids(scene.claim(worker, queues=queues)) == [normal]
    assert scene.claim(worker, queues=queues, suspects=True) == []
    (job,) = scene.claim(worker, queues=queues, suspects=True, executor=Executor.PROCESS)
    assert (job.id, job.suspect) == (foreign, True)


def test_epochs_have_64_bits(scene):
    """The fence holds far beyond 32 bits, also where two epochs differ only above them."""
    (job_id,) = scene.enqueue()
    scene.set(job_id, epoch=2**62)
    (job,) = scene.claim(scene.worker())
    assert job.epoch == scene.row(job_id).epoch == 2**62 + 1
    stale = Run(job.id, job.epoch - 2**32)
    done = decision(job, End.SUCCEEDED, result="1")
    assert scene.store.finish([replace(done, run=stale)]) == {}
    assert scene.store.finish([done]) == {job.run: JobState.SUCCESSFUL}


@on_postgresql
@pytest.mark.parametrize("queues", QUEUES)
def test_an_idle_claim_writes_nothing(scene, queues):
    """Polling takes no transaction id: not even the worker's row is locked if there is nothing to claim."""
    worker = scene.worker()
    scene.enqueue(executor=Executor.PROCESS)
    with scene.actors(1) as (actor,):
        actor.begin()
        assert actor.do(scene.claim, worker, 8, queues) == []
        assert actor.do(_transaction_id, scene.alias) is None
        actor.do(scene.enqueue)
        assert actor.do(_transaction_id, scene.alias) is not None


@on_sqlite
@pytest.mark.parametrize("queues", QUEUES)
def test_an_idle_claim_does_not_wait_for_a_writer(scene, queues):
    """Polling takes no write lock: somebody else may hold it for long."""
    worker = scene.worker()
    scene.enqueue(executor=Executor.PROCESS)
    scene.store.prepare()
    with scene.actors(1) as (writer,):
        writer.begin()
        writer.do(scene.enqueue)
        assert scene.claim(worker, 8, queues) == []
        assert scene.store.promote() == {}
        assert scene.store.prune(JobState.FAILED, 0) == 0
        assert scene.store.prune_workers(0) == 0


@on_postgresql
def test_a_claim_from_several_queues_locks_what_it_claims_and_no_more(scene):
    """While a claim of one job is not committed, all others can be claimed by somebody else."""
    for number in range(3):
        scene.enqueue(2, queue=f"q{number}")
    one, other = scene.worker(), scene.worker()
    with scene.actors(1) as (claimer,):
        claimer.begin()
        assert len(claimer.do(scene.claim, one, 1)) == 1
        assert len(scene.claim(other, 10)) == 5


def _transaction_id(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id_if_assigned()")
        return cursor.fetchone()[0]
