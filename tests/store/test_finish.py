"""What ``finish`` promises: every ending of a run, fenced, once. (At the same time as others: ``test_races``.)"""

from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from django.db import IntegrityError

from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import Decision, End
from django_meanwhile.core.states import AttemptKind, Executor, JobState
from django_meanwhile.models import Attempt
from tests.store.scene import decision, runs, succeeded


def test_a_success_keeps_its_result(scene, store):
    """SUCCESSFUL, with result and end; the worker is let go and remembered; no attempt row is written."""
    worker = scene.worker()
    job = scene.one(worker)
    done = decision(job, End.SUCCEEDED, result='{"x": "é\\n%s"}', progress="[1]")
    assert store.finish([done]) == {job.run: JobState.SUCCESSFUL}
    row = scene.row(job.id)
    assert (row.state, row.result, row.progress) == (JobState.SUCCESSFUL, '{"x": "é\\n%s"}', "[1]")
    assert (row.worker_id, row.last_worker_id, row.epoch, row.attempts) == (None, worker, 1, 1)
    assert row.attempted_at <= row.finished_at <= store.now()
    assert scene.attempts(job.id) == []


def test_what_an_ending_does_not_say_stays(scene, store):
    """Result and progress of None keep what is there."""
    job = scene.one()
    scene.set(job.id, result="old", progress="half")
    assert scene.end(job, End.FAILED, retry_in=0.0) is JobState.READY
    row = scene.row(job.id)
    assert (row.result, row.progress) == ("old", "half")


class Ending(NamedTuple):
    """A way for a run to end, and what the row looks like afterwards."""

    end: End
    outcome: dict[str, Any]
    before: dict[str, Any]
    state: JobState
    counters: tuple[int, int, int, int]  # attempts, crashes, interruptions, deaths
    suspect: bool
    kind: str | None


ENDINGS = {
    "failed": Ending(End.FAILED, {}, {}, JobState.FAILED, (1, 0, 0, 0), False, "failed"),
    "retry now": Ending(End.FAILED, {"retry_in": 0.0}, {}, JobState.READY, (1, 0, 0, 0), False, "failed"),
    "retry later": Ending(End.FAILED, {"retry_in": 60.0}, {}, JobState.SCHEDULED, (1, 0, 0, 0), False, "failed"),
    "cancelled": Ending(End.CANCELLED, {}, {}, JobState.CANCELLED, (1, 0, 0, 0), False, "failed"),
    "not begun": Ending(End.NOT_BEGUN, {}, {}, JobState.READY, (0, 0, 0, 0), False, None),
    "not begun, later": Ending(End.NOT_BEGUN, {"retry_in": 60.0}, {}, JobState.SCHEDULED, (0, 0, 0, 0), False, None),
    "interrupted": Ending(End.INTERRUPTED, {}, {}, JobState.READY, (0, 0, 1, 0), False, "interrupted"),
    "shared death": Ending(End.SHARED_DEATH, {}, {}, JobState.READY, (0, 0, 1, 1), False, "interrupted"),
    "second death": Ending(End.SHARED_DEATH, {}, {"deaths": 1}, JobState.READY, (0, 0, 1, 2), True, "interrupted"),
    "crash": Ending(End.CRASHED, {}, {"suspect": True}, JobState.READY, (0, 1, 0, 0), True, "crash"),
    "third crash": Ending(End.CRASHED, {}, {"crashes": 2}, JobState.QUARANTINED, (0, 3, 0, 0), False, "crash"),
    "never again": Ending(End.CRASHED, {}, {"retry_on_crash": False}, JobState.FAILED, (0, 1, 0, 0), False, "crash"),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_every_ending_leaves_its_shape(scene, store, ending):
    """State, counters, times and attempt row follow from the decision alone; the epoch never moves."""
    worker = scene.worker()
    job = scene.one(worker)
    if ending.before:
        scene.set(job.id, **ending.before)
        job = replace(job, **ending.before)
    state = ending.state
    assert scene.end(job, ending.end, exception="a.Error", detail="seen", **ending.outcome) is state
    row = scene.row(job.id)
    assert (row.attempts, row.crashes, row.interruptions, row.deaths) == ending.counters
    assert (row.state, row.suspect, row.epoch) == (state, ending.suspect, 1)
    assert (row.worker_id, row.last_worker_id) == (None, worker)
    assert (row.finished_at is not None) == state.is_terminal
    if state is JobState.SCHEDULED:
        now = store.now()
        assert job.attempted_at + timedelta(seconds=60) <= row.due_at <= now + timedelta(seconds=60)
    if state is JobState.READY:
        assert job.attempted_at <= row.due_at <= store.now()  # ready since then
    assert [attempt.kind for attempt in scene.attempts(job.id)] == ([ending.kind] if ending.kind else [])


def test_an_attempt_row_tells_of_its_run(scene):
    """Which run, where, from when to when, why: one row for each run that did not succeed."""
    worker = scene.worker()
    first = scene.one(worker)
    scene.end(first, End.FAILED, retry_in=0.0, exception="app.Boom", detail="Traceback …\n  é %s {x}")
    (second,) = scene.claim(scene.worker())
    scene.end(second, End.INTERRUPTED)
    one, two = scene.attempts(first.id)
    assert (one.epoch, one.worker_id, one.kind, one.exception) == (1, worker, AttemptKind.FAILED, "app.Boom")
    assert one.detail == "Traceback …\n  é %s {x}"
    assert (one.started_at, two.started_at) == (first.attempted_at, second.attempted_at)
    assert one.started_at <= one.ended_at <= two.started_at <= two.ended_at
    assert (two.epoch, two.worker_id, two.kind) == (2, second.worker_id, AttemptKind.INTERRUPTED)
    assert two.exception.endswith("Interrupted")


def test_what_no_database_can_store_is_made_storable(scene):
    """A NUL, a lone surrogate or an endless class name in an error never keeps a job RUNNING."""
    job = scene.one()
    assert (
        scene.end(job, End.FAILED, exception="a." + "E" * 500, detail="nul \x00 surrogate \ud800.") is JobState.FAILED
    )
    (attempt,) = scene.attempts(job.id)
    assert attempt.exception == "a." + "E" * 253
    assert attempt.detail == "nul \\x00 surrogate \\ud800."


def test_a_release_can_send_the_job_elsewhere(scene):
    """A run that was not begun changes executor and queue, if today's code says so, and costs nothing."""
    job = scene.one()
    assert scene.end(job, End.NOT_BEGUN, executor=Executor.PROCESS, queue="heavy") is JobState.READY
    row = scene.row(job.id)
    assert (row.executor, row.queue, row.attempts) == ("process", "heavy", 0)
    (again,) = scene.claim(scene.worker(), queues=["heavy"], executor=Executor.PROCESS)
    assert (again.epoch, again.attempts) == (2, 1)


def test_only_the_run_that_owns_the_job_ends_it(scene, store):
    """Another epoch, a job that is not RUNNING and a job that is not there are no errors, and change nothing."""
    job, waiting, over = scene.one(), scene.in_state(JobState.READY), scene.in_state(JobState.FAILED)
    before = {id_: scene.row(id_).__dict__ for id_ in (job.id, waiting, over)}
    strangers = [
        Run(job.id, job.epoch + 1),
        Run(job.id, job.epoch - 1),
        Run(waiting, 0),
        Run(waiting, 1),
        Run(over, 1),
        Run(uuid7(), 1),
    ]
    for run in strangers:
        stolen = Decision(run=run, state=JobState.SUCCESSFUL, result="stolen", kind=AttemptKind.FAILED, attempts=5)
        assert store.finish([stolen]) == {}
    after = {id_: scene.row(id_).__dict__ for id_ in before}
    for columns in (*before.values(), *after.values()):
        columns.pop("_state")
    assert before == after
    assert not Attempt.objects.using(scene.alias).exists()


def test_the_same_run_is_ended_once(scene, store):
    """Sent again, in the same batch or later, with the same or another outcome: the first one counts."""
    job, other = scene.running(2)
    failed = decision(job, End.FAILED, exception="first")
    batch = [failed, *succeeded([other]), failed, decision(job, End.SUCCEEDED, result="late")]
    assert store.finish(batch) == {job.run: JobState.FAILED, other.run: JobState.SUCCESSFUL}
    assert store.finish(batch) == {}
    assert [attempt.exception for attempt in scene.attempts(job.id)] == ["first"]
    assert scene.row(job.id).result is None


def test_a_worker_that_claims_its_own_expired_job_again_ends_only_the_new_run(scene, store):
    """An owner's id is no fence: only the epoch tells the new run from the old one, which still goes on."""
    worker = scene.worker()
    old = scene.one(worker)
    scene.lapse(worker)
    store.kill([worker])
    (orphan,) = store.orphans()
    store.finish([Decision(run=orphan.run, state=JobState.READY, attempts=-1)])
    # The same worker, under the same id: as if its row had been written anew.
    store.unregister([worker])
    scene.worker(id=worker)
    (new,) = scene.claim(worker)
    assert (new.id, new.worker_id, new.epoch) == (old.id, old.worker_id, old.epoch + 1)
    assert scene.end(old, End.SUCCEEDED, result='"old"') is None
    assert scene.row(new.id).state == JobState.RUNNING
    assert scene.end(new, End.SUCCEEDED, result='"new"') is JobState.SUCCESSFUL
    assert scene.end(old, End.FAILED) is None
    assert scene.row(new.id).result == '"new"'


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(End.FAILED, {"retry_in": 0.0}), (End.FAILED, {"retry_in": 9.0}), (End.NOT_BEGUN, {}), (End.SHARED_DEATH, {})],
    ids=["retry", "retry later", "release", "rescue"],
)
def test_a_job_whose_cancel_was_requested_never_runs_again(scene, store, end, outcome):
    """Retry, release and rescue become CANCELLED where the row says so, whatever the decision says."""
    job = scene.one()
    assert store.cancel([job.id]) == {job.id: JobState.RUNNING}
    assert scene.end(job, end, **outcome) is JobState.CANCELLED
    row = scene.row(job.id)
    assert (row.state, row.worker_id, row.finished_at is not None) == (JobState.CANCELLED, None, True)
    assert scene.at(60).promote() == {}


def test_an_outcome_counts_though_a_cancel_was_requested(scene, store):
    """A body that returned, or failed for good, before the cancel reached it has its own outcome."""
    good, bad = scene.running(2)
    store.cancel([good.id, bad.id])
    assert scene.end(good, End.SUCCEEDED, result="1") is JobState.SUCCESSFUL
    assert scene.end(bad, End.FAILED) is JobState.FAILED


def test_all_decisions_are_written_or_none(scene, store):
    """One bad decision takes its companions with it, over all batches; alone it can be found and left out."""
    jobs = scene.running(3) + [job for _ in range(3) for job in scene.running(250)]
    impossible = Decision(run=jobs[600].run, state=JobState.RUNNING, kind=AttemptKind.FAILED)
    with pytest.raises(IntegrityError):
        store.finish([*succeeded(jobs[:600]), impossible, *succeeded(jobs[601:])])
    assert set(scene.states().values()) == {JobState.RUNNING}
    accepted = store.finish(succeeded(jobs[:600] + jobs[601:]))
    assert set(accepted) == set(runs(jobs)) - {jobs[600].run}
    assert set(accepted.values()) == {JobState.SUCCESSFUL}


def test_large_results_are_cut_into_several_statements(scene, store):
    """Twenty results of a mebibyte each: no statement holds more than a few of them."""
    jobs = scene.running(20)
    result = '"' + "é" * (1024 * 1024 - 2) + '"'
    assert len(store.finish(succeeded(jobs, result))) == 20
    assert {scene.row(job.id).result for job in jobs} == {result}


def test_a_lost_reply_is_settled_by_looking(scene, store):
    """``recorded`` tells of each run at its own epoch; a job that has been claimed again is missing."""
    done, going, again, gone = scene.running(4)
    scene.end(done, End.SUCCEEDED, result="1")
    scene.end(again, End.FAILED, retry_in=0.0)
    scene.claim(scene.worker())
    asked = [done.run, going.run, again.run, Run(done.id, 7), Run(uuid4(), 1), Run(gone.id, gone.epoch)]
    scene.end(gone, End.NOT_BEGUN)
    assert store.recorded(asked) == {
        done.run: JobState.SUCCESSFUL,
        going.run: JobState.RUNNING,
        gone.run: JobState.READY,
    }
    assert store.recorded([]) == {}
    assert store.finish([]) == {}
