"""One waits for another's lock on PostgreSQL: what the second one does when the first has committed, or not.

No test sleeps: an actor that must wait is seen waiting in ``pg_blocking_pids``.
"""

import pytest

from django_meanwhile.core.job import Progress
from django_meanwhile.core.outcome import End, Outcome, decide
from django_meanwhile.core.states import Executor, JobState
from tests.store.scene import ids, on_postgresql, succeeded

pytestmark = on_postgresql

QUEUES = [
    pytest.param(["q0"], id="one queue"),
    pytest.param(["q0", "q1"], id="several"),
    pytest.param([], id="every queue"),
]


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("ending", ["kill", "bury"])
def test_a_claim_beside_an_uncommitted_kill_takes_nothing(scene, queues, ending):
    """The claim waits for the worker's row, and finds it dead. (Without FOR SHARE it took the jobs.)"""
    worker = scene.worker(lease=30)
    scene.enqueue(3, queue="q0")
    # The sweeper's clock is ahead: for it the lease has run out, for the claimer it has not.
    sweeper = scene.at(31)
    with scene.actors(2) as (killer, claimer):
        killer.begin()
        killer.do(getattr(sweeper, ending), [worker])
        claim = claimer.start_and_wait_for_lock(scene.claim, worker, 10, queues)
        killer.commit()
        assert claim.result() == []
    assert set(scene.states().values()) == {JobState.READY}


@pytest.mark.parametrize("queues", QUEUES)
def test_a_claim_beside_a_kill_that_is_rolled_back_goes_on(scene, queues):
    """A sweeper that dies in the middle has killed nobody."""
    worker = scene.worker(lease=30)
    made = scene.enqueue(3, queue="q0")
    with scene.actors(2) as (killer, claimer):
        killer.begin()
        killer.do(scene.at(31).kill, [worker])
        claim = claimer.start_and_wait_for_lock(scene.claim, worker, 10, queues)
        killer.roll_back()
        assert ids(claim.result()) == made


def test_a_lease_that_runs_out_while_a_claim_waits_is_seen(scene):
    """The conditions on the worker are evaluated after the wait, by the time it is then."""
    worker = scene.worker(lease=30)
    scene.enqueue(3)
    with scene.actors(2) as (other, claimer):
        other.begin()
        other.do(scene.lapse, worker)  # what a clock would do: alive when the claim begins, over when it goes on
        claim = claimer.start_and_wait_for_lock(scene.claim, worker)
        other.commit()
        assert claim.result() == []


def test_a_kill_beside_an_uncommitted_claim_finds_its_jobs(scene, store):
    """It waits for the claim; the sweep that follows misses none of what was claimed in the last moment."""
    worker = scene.worker(lease=30)
    scene.enqueue(3)
    with scene.actors(2) as (claimer, killer):
        claimer.begin()
        claimed = claimer.do(scene.claim, worker)
        assert len(claimed) == 3
        kill = killer.start_and_wait_for_lock(scene.at(31).kill, [worker])
        assert store.orphans() == []
        claimer.commit()
        assert kill.result() == {worker}
    assert {orphan.run.job_id for orphan in store.orphans()} == set(ids(claimed))


def test_a_renewal_first_a_kill_second_nobody_dies(scene, store):
    """The kill waits for the renewal, looks again and lets the worker live: its jobs stay its own."""
    worker = scene.worker()
    job = scene.one(worker)
    scene.lapse(worker)
    with scene.actors(2) as (beat, sweeper):
        beat.begin()
        assert beat.do(store.renew, [worker], 30) == {worker}
        kill = sweeper.start_and_wait_for_lock(store.kill, [worker])
        beat.commit()
        assert kill.result() == set()
    assert store.orphans() == []
    assert scene.end(job, End.SUCCEEDED, result="1") is JobState.SUCCESSFUL


def test_a_kill_first_a_renewal_second_the_worker_is_told(scene, store):
    """The renewal waits for the kill and renews nothing: the worker learns that it is dead."""
    worker = scene.worker()
    scene.one(worker)
    scene.lapse(worker)
    with scene.actors(2) as (sweeper, beat):
        sweeper.begin()
        assert sweeper.do(store.kill, [worker]) == {worker}
        renewal = beat.start_and_wait_for_lock(store.renew, [worker], 30)
        sweeper.commit()
        assert renewal.result() == set()
    assert len(store.orphans()) == 1


def test_a_burial_waits_for_a_renewal_and_goes_through(scene, store):
    """A supervisor that saw its child's end is right, whatever its own beat wrote at the same moment."""
    worker = scene.worker()
    with scene.actors(2) as (beat, supervisor):
        beat.begin()
        beat.do(store.renew, [worker], 30)
        burial = supervisor.start_and_wait_for_lock(store.bury, [worker])
        beat.commit()
        burial.result()
    assert store.leases() == []


def test_a_sweep_takes_nothing_while_a_renewal_is_being_written(scene, store):
    """Between the sweep's halves a renewal commits: no statement of the sweep has taken a job for an orphan."""
    worker = scene.worker()
    job = scene.one(worker)
    scene.lapse(worker)
    with scene.actors(1) as (beat,):
        beat.begin()
        beat.do(store.renew, [worker], 30)
        assert store.orphans() == []  # the first half, before the renewal is seen
        beat.commit()
        assert store.orphans() == []
    assert scene.row(job.id).state == JobState.RUNNING


def test_a_rescue_beside_an_uncommitted_finish_comes_too_late(scene, store):
    """The late worker's outcome was accepted: the sweeper waits for the row, and misses."""
    worker = scene.worker()
    job = scene.one(worker)
    store.bury([worker])
    rescues = [decide(orphan, Outcome(end=End.SHARED_DEATH)) for orphan in store.orphans()]
    with scene.actors(2) as (late, sweeper):
        late.begin()
        late.do(store.finish, succeeded([job]))
        rescue = sweeper.start_and_wait_for_lock(store.finish, rescues)
        late.commit()
        assert rescue.result() == {}
    row = scene.row(job.id)
    assert (row.state, row.deaths, scene.attempts(job.id)) == (JobState.SUCCESSFUL, 0, [])


def test_a_finish_beside_an_uncommitted_rescue_is_lost(scene, store):
    """The other order: the late worker's outcome is discarded, though it was sent before the rescue was over."""
    worker = scene.worker()
    job = scene.one(worker)
    store.bury([worker])
    rescues = [decide(orphan, Outcome(end=End.SHARED_DEATH)) for orphan in store.orphans()]
    with scene.actors(2) as (sweeper, late):
        sweeper.begin()
        sweeper.do(store.finish, rescues)
        finish = late.start_and_wait_for_lock(store.finish, succeeded([job]))
        sweeper.commit()
        assert finish.result() == {}
    row = scene.row(job.id)
    assert (row.state, row.deaths, row.result) == (JobState.READY, 1, None)


@pytest.mark.parametrize("retry_in", [0.0, 60.0])
def test_a_cancel_that_commits_while_a_retry_waits_counts(scene, store, retry_in):
    """The retry decides on the row as it is after the wait: CANCELLED, not READY."""
    job = scene.one()
    with scene.actors(2) as (operator, worker):
        operator.begin()
        assert operator.do(store.cancel, [job.id]) == {job.id: JobState.RUNNING}
        retry = worker.start_and_wait_for_lock(scene.end, job, End.FAILED, retry_in=retry_in)
        operator.commit()
        assert retry.result() is JobState.CANCELLED
    assert scene.row(job.id).finished_at is not None


def test_a_cancel_beside_an_uncommitted_claim_is_noted(scene, store):
    """The job was READY when the operator clicked, RUNNING when the row came free: the worker will be told."""
    worker = scene.worker()
    (job_id,) = scene.enqueue()
    with scene.actors(2) as (claimer, operator):
        claimer.begin()
        (job,) = claimer.do(scene.claim, worker)
        cancel = operator.start_and_wait_for_lock(store.cancel, [job_id])
        claimer.commit()
        assert cancel.result() == {job_id: JobState.RUNNING}
    assert store.cancel_requests([worker]) == [(worker, job.run)]


def test_a_cancel_beside_an_uncommitted_finish_finds_the_end(scene, store):
    """Nothing that has ended is cancelled."""
    job = scene.one()
    with scene.actors(2) as (worker, operator):
        worker.begin()
        worker.do(store.finish, succeeded([job]))
        cancel = operator.start_and_wait_for_lock(store.cancel, [job.id])
        worker.commit()
        assert cancel.result() == {}
    assert scene.row(job.id).cancel_requested_at is None


def test_progress_beside_an_uncommitted_finish_is_lost(scene, store):
    """A late report never overwrites what the end wrote."""
    job = scene.one()
    with scene.actors(2) as (worker, reporter):
        worker.begin()
        worker.do(store.finish, succeeded([job]))
        report = reporter.start_and_wait_for_lock(store.write_progress, [Progress(run=job.run, progress="[1]")])
        worker.commit()
        assert report.result() == {}
    assert scene.row(job.id).progress is None


def test_a_claim_passes_over_rows_that_somebody_holds(scene, store):
    """Neither a claim nor a promotion ever waits for a job's row."""
    held, free = scene.enqueue(2)
    due_held, due_free = scene.enqueue(2, delay=10)
    with scene.actors(1) as (operator,):
        operator.begin()
        operator.do(store.cancel, [held, due_held])
        assert ids(scene.claim(scene.worker(), queues=["default"])) == [free]
        assert scene.at(20).promote() == {"default": 1}
        operator.roll_back()
    assert [scene.state(job_id) for job_id in (held, due_held, due_free)] == [
        JobState.READY,
        JobState.SCHEDULED,
        JobState.READY,
    ]


def test_a_retry_wins_over_a_prune_or_waits_for_it(scene, store):
    """A job that an operator brings back is not deleted; one that is being deleted is not brought back."""
    first, second = scene.in_state(JobState.FAILED), scene.in_state(JobState.CANCELLED)
    later = scene.at(20)
    with scene.actors(2) as (one, other):
        one.begin()
        assert one.do(store.retry, [first]) == {first}
        assert later.prune(JobState.FAILED, 10) == 0
        one.commit()
        one.begin()
        assert one.do(later.prune, JobState.CANCELLED, 10) == 1
        retry = other.start_and_wait_for_lock(store.retry, [second])
        one.commit()
        assert retry.result() == set()
    assert scene.states() == {first: JobState.READY}


def test_claims_of_one_worker_do_not_wait_for_each_other(scene):
    """A share of the row is enough: two executors of a child claim at the same time."""
    worker = scene.worker()
    scene.enqueue(2)
    (other,) = scene.enqueue(executor=Executor.ASYNCIO)
    with scene.actors(1) as (claimer,):
        claimer.begin()
        assert len(claimer.do(scene.claim, worker)) == 2
        assert ids(scene.claim(worker, executor=Executor.ASYNCIO)) == [other]
