"""What ``promote``, ``prune``, ``suspects``, ``depths`` and the set-up verbs promise."""

from datetime import timedelta

import pytest

from django_meanwhile.core.job import Depth
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import TERMINAL, Executor, JobState
from django_meanwhile.models import Attempt
from tests.store.scene import ids


def test_a_due_job_becomes_ready_and_no_other_does(scene, store):
    """``promote`` counts per queue, by the database's clock, and keeps the due time."""
    now = store.now()
    soon = scene.enqueue(2, due_at=now + timedelta(seconds=50))
    mail = scene.enqueue(queue="mail", delay=60)
    late = scene.enqueue(due_at=now + timedelta(seconds=500))
    assert store.promote() == {}
    assert scene.at(100).promote() == {"default": 2, "mail": 1}
    assert scene.at(100).promote() == {}
    assert scene.states() == dict.fromkeys(soon + mail, JobState.READY) | dict.fromkeys(late, JobState.SCHEDULED)
    assert abs(scene.row(soon[0]).due_at - now - timedelta(seconds=50)) < timedelta(milliseconds=1)


def test_the_longest_due_are_promoted_first(scene, store):
    """A batch is bounded, and takes those that have waited longest."""
    jobs = [scene.enqueue(delay=60 - number)[0] for number in range(6)]
    later = scene.at(100)
    assert later.promote(limit=2) == {"default": 2}
    assert [job_id for job_id, state in scene.states().items() if state is JobState.READY] == jobs[4:]
    assert (later.promote(limit=100), later.promote()) == ({"default": 4}, {})


def test_suspects_are_counted_up_to_a_limit(scene, store):
    """Of the given queues, or of all: READY ones only, of any executor."""
    made = [*scene.enqueue(3), *scene.enqueue(2, queue="mail"), *scene.enqueue(queue="mail", executor=Executor.PROCESS)]
    scene.enqueue(5)
    assert store.suspects([], 10) == 0
    for job_id in made:
        scene.set(job_id, suspect=True)
    scene.claim(scene.worker(), 1, ["default"], suspects=True)
    assert [store.suspects(queues, 10) for queues in ([], ["mail"], ["default", "mail"], ["x"])] == [5, 3, 5, 0]
    assert store.suspects([], 4) == 4


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_history_of_one_state_and_age_is_pruned_in_batches(scene, store, state):
    """The oldest first, with their attempt rows; other states, younger ones and live jobs stay."""
    old = [scene.in_state(state) for _ in range(3)]
    young = scene.in_state(state)
    for number, job_id in enumerate(old):
        scene.set(job_id, finished_at=store.now() - timedelta(hours=10 - number))
        Attempt.objects.using(scene.alias).create(
            job_id=job_id, epoch=9, worker_id=job_id, kind="failed", started_at=store.now(), ended_at=store.now()
        )
    others = [scene.in_state(other) for other in JobState if other is not state]
    for job_id in others[3:]:
        scene.set(job_id, finished_at=store.now() - timedelta(hours=20))
    assert store.prune(state, 3600, limit=2) == 2
    assert old[2] in scene.states()
    assert store.prune(state, 3600) == 1
    assert store.prune(state, 3600) == 0
    assert set(scene.states()) == {young, *others}
    assert not Attempt.objects.using(scene.alias).filter(job_id__in=old).exists()


def test_age_is_judged_by_the_databases_clock(scene):
    """A job is history that many seconds after its end, not sooner."""
    scene.in_state(JobState.SUCCESSFUL)
    assert scene.at(3540).prune(JobState.SUCCESSFUL, 3600) == 0
    assert scene.at(3660).prune(JobState.SUCCESSFUL, 3600) == 1


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_live_jobs_are_never_history(scene, store, state):
    """Asking to prune them is a mistake of the caller's."""
    job_id = scene.in_state(state)
    with pytest.raises(ValueError, match="terminal"):
        store.prune(state, 0)
    assert scene.state(job_id) is state


def test_depths_count_live_jobs_per_queue_and_executor(scene, store):
    """READY without suspects, SCHEDULED, RUNNING, suspects, and how long the oldest has been ready."""
    worker = scene.worker()
    assert store.depths() == []
    for rank in (0, 5, -5):
        scene.enqueue(2, rank=rank)
    scene.enqueue(3, queue="mail", executor=Executor.ASYNCIO, delay=60)
    running, suspect, released = scene.enqueue(3, queue="mail")
    scene.claim(worker, 1, ["mail"])
    scene.set(suspect, suspect=True)
    (job,) = scene.claim(worker, 1, ["mail"])
    scene.end(job, End.NOT_BEGUN)
    for state in TERMINAL:
        scene.in_state(state)
    now = store.now()
    for job_id, age in ((suspect, 40), (released, 30)):
        scene.set(job_id, due_at=now - timedelta(seconds=age), enqueued_at=now - timedelta(hours=1))
    thread, asyncio = Executor.THREAD, Executor.ASYNCIO
    depths = {(depth.queue, depth.executor): depth for depth in store.depths()}
    assert set(depths) == {("default", thread), ("mail", asyncio), ("mail", thread)}
    assert _counts(depths["default", thread]) == (6, 0, 0, 0)
    assert _counts(depths["mail", asyncio]) == (0, 3, 0, 0)
    assert _counts(depths["mail", thread]) == (1, 0, 1, 1)
    assert 0 <= depths["default", thread].oldest_ready_seconds < 20
    assert depths["mail", asyncio].oldest_ready_seconds is None
    assert 40 <= depths["mail", thread].oldest_ready_seconds < 60
    assert ids([job]) == [released]
    assert scene.state(running) is JobState.RUNNING


def test_counts_stop_at_the_limit(scene, store):
    """A backlog of millions costs no more to look at than one of thousands."""
    scene.enqueue(7)
    scene.claim(scene.worker(), 7)
    scene.enqueue(7, rank=1)
    scene.enqueue(7, rank=2)
    scene.enqueue(7, delay=60)
    (depth,) = store.depths(limit=5)
    assert _counts(depth) == (5, 5, 5, 0)


def test_preparing_is_repeatable(store):
    """Every worker does it once; it changes nothing that is as it should be."""
    store.prepare()
    store.prepare()


def _counts(depth: Depth) -> tuple[int, int, int, int]:
    return depth.ready, depth.scheduled, depth.running, depth.suspects
