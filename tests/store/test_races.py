"""Several at once, on every vendor: threads with connections of their own, released together by a barrier."""

import random
import threading
from collections import Counter

import pytest

from django_meanwhile.core.job import Progress
from django_meanwhile.core.outcome import Decision, End, Outcome, decide
from django_meanwhile.core.states import AttemptKind, JobState
from django_meanwhile.models import Attempt, Job
from tests.store.scene import LONG, decision, ids, on_postgresql, runs, succeeded


def together(actors, functions):
    """Let each actor run its function, all from the same moment; return what they returned."""
    barrier = threading.Barrier(len(actors))

    def begin(function):
        barrier.wait(LONG)
        return function()

    futures = [actor.start(begin, function) for actor, function in zip(actors, functions, strict=True)]
    return [future.result(120) for future in futures]


@pytest.mark.parametrize("queues", [["q0"], ["q0", "q1", "q2"], []], ids=["one queue", "several", "every queue"])
def test_eight_claimers_share_two_thousand_jobs_without_a_double(scene, store, queues):
    """Every job is claimed exactly once, whatever the claims' sizes, and none is left behind."""
    jobs = [
        scene.new(queue=queues[number % len(queues)] if queues else f"q{number % 3}", rank=number % 5)
        for number in range(2000)
    ]
    store.enqueue(jobs)

    def claim_all(seed):
        sizes = random.Random(seed)
        worker = scene.worker()
        claimed, misses = [], 0
        while misses < 3:  # nothing, three times: what others hold in their transactions may not be theirs yet
            batch = scene.claim(worker, sizes.randint(1, 40), queues)
            claimed += batch
            misses = 0 if batch else misses + 1
        return claimed

    with scene.actors(8) as actors:
        results = together(actors, [lambda seed=seed: claim_all(seed) for seed in range(8)])
    claimed = [job for result in results for job in result]
    assert Counter(ids(claimed)) == Counter(job.id for job in jobs)
    assert {(job.epoch, job.attempts) for job in claimed} == {(1, 1)}
    rows = dict(Job.objects.using(scene.alias).values_list("id", "worker_id"))
    assert rows == {job.id: job.worker_id for job in claimed}


def test_crossing_batches_of_finishes_do_not_deadlock(scene, store):
    """The same runs, finished by two at once in opposite orders, thirty times: each is accepted once."""
    with scene.actors(2) as actors:
        for _ in range(30):
            jobs = scene.running(60)
            there, back = succeeded(jobs, '"there"'), succeeded(reversed(jobs), '"back"')
            one, other = together(actors, [lambda d=there: store.finish(d), lambda d=back: store.finish(d)])
            assert sorted([*one, *other]) == sorted(runs(jobs))
            results = set(Job.objects.using(scene.alias).filter(id__in=ids(jobs)).values_list("result", flat=True))
            assert results == ({'"there"'} if one else set()) | ({'"back"'} if other else set())


def test_crossing_cancels_retries_and_progress_do_not_deadlock(scene, store):
    """Everything that writes several rows locks them in the order of their ids, whatever order it was given."""
    jobs = scene.running(80)
    said = [Progress(run=run, progress="[1]") for run in runs(jobs)]
    ended = [scene.in_state(JobState.FAILED) for _ in range(40)]
    work = [
        lambda: [store.cancel(ids(jobs)) for _ in range(15)],
        lambda: [store.cancel(ids(jobs)[::-1]) for _ in range(15)],
        lambda: [store.write_progress(said[::-1]) for _ in range(15)],
        lambda: [store.write_progress(said) for _ in range(15)],
        lambda: [(store.retry(ended), store.cancel(ended[::-1])) for _ in range(15)],
        lambda: [(store.retry(ended[::-1]), store.cancel(ended)) for _ in range(15)],
    ]
    with scene.actors(6) as actors:
        together(actors, work)
    assert {scene.state(job.id) for job in jobs} == {JobState.RUNNING}
    assert len(store.finish(succeeded(jobs))) == 80


def test_renewals_kills_and_burials_in_crossing_orders_do_not_deadlock(scene, store):
    """Rows of several workers are locked in the order of their ids as well."""
    workers = [scene.worker() for _ in range(40)]
    scene.lapse(*workers[::2], by=0.001)
    work = [
        lambda: [store.renew(workers, 0.0) for _ in range(20)],
        lambda: [store.renew(workers[::-1], 0.0) for _ in range(20)],
        lambda: [store.kill(workers[::-1]) for _ in range(20)],
        lambda: [store.kill(workers) for _ in range(20)],
    ]
    with scene.actors(4) as actors:
        results = together(actors, work)
    killed = Counter(worker for result in results[2:] for batch in result for worker in batch)
    assert set(killed.values()) <= {1}
    assert {lease.worker_id for lease in store.leases()} == set(workers) - set(killed)


def test_two_sweepers_and_a_finish_at_once_write_one_ending_each(scene, store):
    """Of the late worker and two sweepers one wins each job: nothing is stolen, nothing comes back to life."""
    worker = scene.worker()
    jobs = scene.running(200, worker)
    store.bury([worker])

    def sweep():
        return store.finish([decide(orphan, Outcome(end=End.SHARED_DEATH)) for orphan in store.orphans()])

    def finish():
        accepted = {}
        for start in range(0, 200, 7):
            accepted |= store.finish(succeeded(jobs[start : start + 7]))
        return accepted

    with scene.actors(3) as actors:
        finished, *swept = together(actors, [finish, sweep, sweep])
    accepted = [*finished, *swept[0], *swept[1]]
    assert sorted(accepted) == sorted(runs(jobs))
    rows = Job.objects.using(scene.alias).in_bulk(ids(jobs))
    for job in jobs:
        row = rows[job.id]
        if job.run in finished:
            assert (row.state, row.attempts, row.deaths, row.result) == (JobState.SUCCESSFUL, 1, 0, "1")
        else:
            assert (row.state, row.attempts, row.deaths, row.interruptions) == (JobState.READY, 0, 1, 1)
    assert Attempt.objects.using(scene.alias).count() == len(swept[0]) + len(swept[1])


def test_a_cancel_and_a_claim_at_once_never_both_win(scene, store):
    """Each job is cancelled before it ran, or runs with the request noted: none runs unasked."""
    made = scene.enqueue(300)
    worker = scene.worker()

    def cancel():
        answers = {}
        for start in range(0, 300, 10):
            answers |= store.cancel(made[start : start + 10])
        return answers

    def claim():
        claimed = []
        for _ in range(60):
            claimed += scene.claim(worker, 5)
        return claimed

    with scene.actors(2) as actors:
        answers, claimed = together(actors, [cancel, claim])
    rows = Job.objects.using(scene.alias).in_bulk(made)
    assert set(answers) == set(made)
    for job_id in made:
        row = rows[job_id]
        expected = JobState.RUNNING if job_id in ids(claimed) else JobState.CANCELLED
        assert (answers[job_id], row.state, row.cancel_requested_at is not None) == (expected, expected, True)


def test_a_job_ends_once_however_many_say_so(scene, store):
    """Eight threads fail the same runs: one attempt row each, the counters raised once."""
    jobs = scene.running(40)
    endings = [
        [
            Decision(run=run, state=JobState.READY, kind=AttemptKind.FAILED, exception=f"e{number}", crashes=1)
            for run in runs(jobs)
        ]
        for number in range(8)
    ]
    with scene.actors(8) as actors:
        results = together(actors, [lambda batch=batch: store.finish(batch) for batch in endings])
    assert sorted(run for result in results for run in result) == sorted(runs(jobs))
    for job in jobs:
        (attempt,) = scene.attempts(job.id)
        assert scene.row(job.id).crashes == 1
        assert job.run in results[int(attempt.exception[1:])]


def test_a_worker_is_renewed_or_killed_never_both(scene, store):
    """A kill that succeeds is final: the renewal at the same moment says that the worker is dead."""
    workers = [scene.worker() for _ in range(60)]
    scene.lapse(*workers, by=0.001)
    with scene.actors(2) as actors:
        renewed, killed = together(
            actors,
            [
                lambda: {worker for worker in workers if store.renew([worker], 60)},
                lambda: {worker for worker in reversed(workers) if store.kill([worker])},
            ],
        )
    assert renewed | killed == set(workers)
    assert not renewed & killed
    assert {lease.worker_id for lease in store.leases()} == renewed


def test_promoters_share_due_jobs(scene, store):
    """Several supervisors promote at once: each job once, none waits for another."""
    scene.enqueue(1000, delay=10)
    later = scene.at(20)

    def promote():
        total = 0
        while count := sum(later.promote(limit=37).values()):
            total += count
        return total

    with scene.actors(4) as actors:
        counts = together(actors, [promote] * 4)
    assert sum(counts) + sum(later.promote().values()) == 1000
    assert set(scene.states().values()) == {JobState.READY}


@on_postgresql
def test_prunes_share_history(scene, store):
    """Two of them at once delete each job once."""
    jobs = scene.running(400)
    store.finish([decision(job, End.FAILED) for job in jobs])
    later = scene.at(20)

    def prune():
        return sum(later.prune(JobState.FAILED, 10, limit=30) for _ in range(10))

    with scene.actors(2) as actors:
        counts = together(actors, [prune, prune])
    assert sum(counts) == 400 - len(scene.states())
    assert Attempt.objects.using(scene.alias).count() == len(scene.states())
