"""What the verbs about workers promise, and the sweep that follows from them."""

from datetime import timedelta
from uuid import uuid4

from django_meanwhile.core.job import Run, WorkerRow
from django_meanwhile.core.outcome import Charged, Decision, End, Outcome, decide
from django_meanwhile.core.states import Executor, JobState
from django_meanwhile.models import Worker
from tests.store.scene import ids


def test_a_registered_worker_is_alive_for_one_lease(scene, store):
    """The row carries what was given; the lease counts from the database's clock."""
    worker = WorkerRow(
        id=uuid4(),
        parent_id=uuid4(),
        kind="child",
        host="web-1.example",
        pid=4711,
        queues=("default", "mail"),
        executors=(Executor.THREAD, Executor.ASYNCIO),
        slots=108,
    )
    before = store.now()
    store.register(worker, 30)
    assert store.workers() == [worker]
    (lease,) = store.leases()
    assert (lease.worker_id, lease.expired) == (worker.id, False)
    assert before + timedelta(seconds=30) <= lease.lease_until <= store.now() + timedelta(seconds=30)
    row = scene.worker_row(worker.id)
    assert before <= row.started_at <= store.now()
    assert row.dead_at is None
    assert scene.at(31).workers() == []
    (lease,) = scene.at(31).leases()
    assert lease.expired


def test_a_worker_without_queues_takes_all(scene, store):
    """No queues are no queues, not one without a name."""
    worker = scene.worker(queues=(), executors=())
    (row,) = store.workers()
    assert (row.id, row.queues, row.executors) == (worker, (), ())


def test_a_renewal_extends_the_leases_of_all_that_are_not_dead(scene, store):
    """One call for all children; an expired lease that nobody has ended is renewed, a dead one is not."""
    fresh, lapsed, dead = (scene.worker(lease=5) for _ in range(3))
    scene.lapse(lapsed)
    store.bury([dead])
    death = scene.worker_row(dead)
    assert store.renew([fresh, lapsed, dead, uuid4()], 60) == {fresh, lapsed}
    assert {lease.worker_id: lease.expired for lease in store.leases()} == {fresh: False, lapsed: False}
    for worker in (fresh, lapsed):
        assert scene.worker_row(worker).lease_until > store.now() + timedelta(seconds=55)
    assert scene.worker_row(dead).lease_until == death.lease_until
    assert store.renew([], 60) == set()


def test_only_an_expired_lease_can_be_ended_by_others(scene, store):
    """``kill`` returns whom it killed: not the living, not the dead, not the unknown."""
    fresh, lapsed, dead = (scene.worker() for _ in range(3))
    scene.lapse(lapsed, by=0.01)
    store.bury([dead])
    died = scene.worker_row(dead).dead_at
    assert store.kill([fresh, lapsed, dead, uuid4()]) == {lapsed}
    assert store.kill([fresh, lapsed]) == set()
    assert [worker.id for worker in store.workers()] == [fresh]
    assert scene.worker_row(dead).dead_at == died


def test_a_supervisor_may_bury_its_own_child_before_the_lease_ends(scene, store):
    """It saw the end with its own eyes. Burying twice does not move the time of death."""
    worker, other = scene.worker(), scene.worker()
    store.bury([worker, uuid4()])
    died = scene.worker_row(worker).dead_at
    store.bury([worker])
    assert scene.worker_row(worker).dead_at == died <= store.now()
    assert store.renew([worker, other], 30) == {other}


def test_a_worker_that_holds_a_job_is_not_forgotten(scene, store):
    """``unregister`` and ``prune_workers`` leave a row that a RUNNING job points to."""
    idle, busy = scene.worker(), scene.worker()
    job = scene.one(busy)
    store.unregister([idle, busy, uuid4()])
    assert [row.id for row in store.workers()] == [busy]
    store.bury([busy])
    later = scene.at(100)
    assert later.prune_workers(99) == 0
    scene.end(job, End.SUCCEEDED, result="1")
    assert later.prune_workers(160) == 0
    assert later.prune_workers(99) == 1
    assert not Worker.objects.using(scene.alias).exists()


def test_pruning_workers_leaves_those_that_nobody_declared_dead(scene, store):
    """An expired lease alone is no death."""
    scene.lapse(scene.worker(), by=1000)
    assert scene.at(1000).prune_workers(1) == 0


# --- the sweep ------------------------------------------------------------------------------


def test_orphans_are_running_jobs_of_dead_or_missing_workers(scene, store):
    """And no others: a lease that ran out orphans nothing until somebody has ended it."""
    living, lapsed, dead, missing = (scene.worker() for _ in range(4))
    scene.one(living)
    scene.one(lapsed)
    of_dead, of_missing = scene.one(dead), scene.one(missing)
    ended = scene.one(dead)
    scene.end(ended, End.SUCCEEDED, result="1")
    scene.lapse(lapsed)
    store.bury([dead])
    Worker.objects.using(scene.alias).filter(id=missing).delete()
    assert {orphan.run for orphan in store.orphans()} == {of_dead.run, of_missing.run}
    assert len(store.orphans(limit=1)) == 1
    assert store.kill([lapsed]) == {lapsed}
    assert len(store.orphans()) == 3


def test_an_orphan_carries_what_its_ending_depends_on(scene, store):
    """Any sweeper can honour ``on_crash`` and the counters: they stand in the row."""
    worker = scene.worker()
    (job_id,) = scene.enqueue(retry_on_crash=False)
    scene.set(job_id, crashes=1, deaths=2)
    (job,) = scene.claim(worker)
    charged = Charged(run=job.run, crashes=1, deaths=2, suspect=False, retry_on_crash=False)
    assert store.held(worker) == [charged]
    assert store.held(scene.worker()) == []
    store.bury([worker])
    assert store.orphans() == [charged]


def test_a_rescued_job_runs_again_elsewhere(scene, store):
    """Kill, find the orphans, release them: uncharged, at the same epoch, for the next claim."""
    worker = scene.worker()
    jobs = scene.running(3, worker)
    scene.lapse(worker)
    store.kill([worker])
    rescues = [decide(orphan, Outcome(end=End.SHARED_DEATH)) for orphan in store.orphans()]
    assert set(store.finish(rescues).values()) == {JobState.READY}
    assert store.orphans() == []
    again = scene.claim(scene.worker())
    assert ids(again) == ids(jobs)
    assert {(job.epoch, job.attempts, job.interruptions, job.deaths) for job in again} == {(2, 1, 1, 1)}


def test_a_sweep_takes_nothing_from_a_worker_that_renewed_in_time(scene, store):
    """The lease had run out when the sweeper looked; the renewal came before the kill: all stays as it was."""
    worker = scene.worker()
    job = scene.one(worker)
    scene.lapse(worker)
    (seen,) = [lease for lease in store.leases() if lease.expired]
    assert store.renew([worker], 30) == {worker}
    assert store.kill([seen.worker_id]) == set()
    assert store.orphans() == []
    assert scene.end(job, End.SUCCEEDED, result="1") is JobState.SUCCESSFUL


def test_a_sweep_steals_nothing_that_was_claimed_between_its_halves(scene, store):
    """Found as an orphan, rescued by another sweeper and claimed by a living worker: the second half misses."""
    dead = scene.worker()
    scene.one(dead)
    store.bury([dead])
    late = [decide(orphan, Outcome(end=End.SHARED_DEATH)) for orphan in store.orphans()]
    store.finish(late)
    (again,) = scene.claim(scene.worker())
    assert store.finish(late) == {}
    row = scene.row(again.id)
    assert (row.state, row.worker_id, row.deaths) == (JobState.RUNNING, again.worker_id, 1)
    assert len(scene.attempts(again.id)) == 1


def test_releasing_an_unknown_job_changes_nothing(scene, store):
    """A sweeper that is late by the whole life of a job finds nothing to write."""
    assert store.finish([Decision(run=Run(uuid4(), 1), state=JobState.READY, attempts=-1)]) == {}
