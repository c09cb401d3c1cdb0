"""What ``cancel``, ``retry``, ``cancel_requests`` and ``write_progress`` promise."""

from dataclasses import replace
from uuid import uuid4

import pytest

from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import Progress, Run
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import TERMINAL, JobState
from tests.store.scene import decision, ids


def test_a_waiting_job_is_cancelled_at_once(scene, store):
    """READY and SCHEDULED end here: no worker takes part."""
    waiting = [scene.in_state(JobState.READY), scene.in_state(JobState.SCHEDULED)]
    assert store.cancel([*waiting, uuid4()]) == dict.fromkeys(waiting, JobState.CANCELLED)
    for job_id in waiting:
        row = scene.row(job_id)
        assert (row.state, row.epoch, row.attempts, row.worker_id) == (JobState.CANCELLED, 0, 0, None)
        assert row.enqueued_at <= row.finished_at <= store.now()
        assert row.cancel_requested_at is not None
    assert scene.at(7200).promote() == {}
    assert scene.claim(scene.worker()) == []


def test_a_running_job_is_asked_to_stop(scene, store):
    """It stays its worker's; the request is noted once, and found by the worker."""
    worker = scene.worker()
    job, other = scene.running(2, worker)
    assert store.cancel([job.id]) == {job.id: JobState.RUNNING}
    first = scene.row(job.id).cancel_requested_at
    assert store.cancel([job.id]) == {job.id: JobState.RUNNING}
    row = scene.row(job.id)
    assert (row.state, row.worker_id, row.finished_at, row.cancel_requested_at) == (3, worker, None, first)
    assert store.cancel_requests([worker]) == [(worker, job.run)]
    assert store.cancel_requests([worker, scene.worker()]) == [(worker, job.run)]
    assert store.cancel_requests([scene.worker()]) == store.cancel_requests([]) == []
    assert scene.end(job, End.CANCELLED) is JobState.CANCELLED
    assert store.cancel_requests([worker]) == []
    assert scene.row(other.id).cancel_requested_at is None


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_has_ended_cannot_be_cancelled(scene, store, state):
    """It is missing from the answer and unchanged."""
    job_id = scene.in_state(state)
    before = scene.row(job_id).finished_at
    assert store.cancel([job_id]) == {}
    row = scene.row(job_id)
    assert (row.state, row.finished_at, row.cancel_requested_at) == (state, before, None)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_operator_brings_an_ended_job_back(scene, store, state):
    """READY with fresh counters and without a result; epoch and attempt rows stay, so that the next run has its own."""
    job = scene.one()
    failed = decision(job, End.FAILED, exception="first")
    store.finish([replace(failed, state=state, result='"old"', crashes=2, interruptions=1, deaths=2)])
    if state is JobState.CANCELLED:
        scene.set(job.id, cancel_requested_at=store.now())
    assert store.retry([job.id, uuid4()]) == {job.id}
    row = scene.row(job.id)
    assert (row.state, row.epoch, row.suspect) == (JobState.READY, 1, False)
    assert (row.attempts, row.crashes, row.interruptions, row.deaths) == (0, 0, 0, 0)
    assert (row.result, row.progress, row.started_at, row.attempted_at) == (None, None, None, None)
    assert (row.finished_at, row.cancel_requested_at) == (None, None)
    (again,) = scene.claim(scene.worker())
    assert (again.id, again.epoch, again.attempts, again.cancel_requested) == (job.id, 2, 1, False)
    assert scene.end(again, End.FAILED, exception="second") is JobState.FAILED
    assert [attempt.epoch for attempt in scene.attempts(job.id)] == [1, 2]


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_what_has_not_ended_cannot_be_retried(scene, store, state):
    """Two operators, or one that clicks twice, do not make a job run twice."""
    job_id = scene.in_state(state)
    scene.set(job_id, attempts=7)
    assert store.retry([job_id]) == set()
    row = scene.row(job_id)
    assert (row.state, row.attempts) == (state, 7)
    over = scene.in_state(JobState.FAILED)
    assert (store.retry([over]), store.retry([over])) == ({over}, set())


def test_progress_is_written_by_the_run_that_owns_the_job(scene, store):
    """Accepted runs come back, with whether a cancel is requested; a stale run is told nothing but that."""
    job, cancelled, ended = scene.running(3)
    store.cancel([cancelled.id])
    scene.end(ended, End.SUCCEEDED, result="1", progress="[9]")
    said = [
        Progress(run=job.run, progress='[1, "é %s"]'),
        Progress(run=cancelled.run, progress="[2]"),
        Progress(run=ended.run, progress="[3]"),
        Progress(run=Run(uuid7(), 1), progress="[4]"),
    ]
    assert store.write_progress(said) == {job.run: False, cancelled.run: True}
    for epoch in (job.epoch - 1, job.epoch + 1):
        assert store.write_progress([Progress(run=Run(job.id, epoch), progress="[5]")]) == {}
    assert [scene.row(id_).progress for id_ in ids([job, cancelled, ended])] == ['[1, "é %s"]', "[2]", "[9]"]


def test_the_last_progress_of_a_batch_counts(scene, store):
    """A batch may hold several for one run."""
    job = scene.one()
    assert store.write_progress([Progress(run=job.run, progress=str(n)) for n in range(5)]) == {job.run: False}
    assert scene.row(job.id).progress == "4"
    assert store.write_progress([]) == {}
