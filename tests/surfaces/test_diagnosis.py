"""What is wrong with a queue, judged from a snapshot: each finding, and the states next to it that are none."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest

from django_meanwhile.core.job import Depth
from django_meanwhile.core.states import Executor
from django_meanwhile.management.diagnosis import diagnose
from django_meanwhile.management.snapshot import RunningJob, Snapshot, WorkerView

THREAD, PROCESS = Executor.THREAD, Executor.PROCESS


def depth(queue="default", executor=THREAD, *, ready=0, scheduled=0, running=0, suspects=0, oldest=None):
    """Make a queue's depth."""
    return Depth(
        queue=queue,
        executor=executor,
        ready=ready,
        scheduled=scheduled,
        running=running,
        suspects=suspects,
        oldest_ready_seconds=oldest,
    )


def worker(*, queues=(), executors=("thread", "asyncio"), lease_left=20.0, kind="shared", dead=False):
    """Make a worker."""
    return WorkerView(
        id=uuid.uuid4(),
        parent_id=uuid.uuid4(),
        kind=kind,
        host="h",
        pid=1,
        queues=tuple(queues),
        executors=tuple(executors),
        slots=8,
        lease_left=lease_left,
        dead=dead,
    )


def run(worker_id, seconds=100.0):
    """Make a running job."""
    return RunningJob(
        id=uuid.uuid4(),
        epoch=1,
        task="t",
        queue="default",
        worker_id=worker_id,
        seconds=seconds,
        cancel_requested=False,
    )


def codes(*, unknown=None, max_age=300.0, **parts):
    """Return the codes of what is wrong."""
    fields = {"depths": (), "workers": (), "running": (), **parts}
    snapshot = Snapshot(database="default", vendor="sqlite", backends=(), now=dt.datetime.now(dt.UTC), **fields)
    findings = diagnose(snapshot, unknown_tasks=unknown or {}, max_age=max_age, overdue_after=26.0)
    assert all(finding.message and finding.advice for finding in findings)
    return [finding.code for finding in findings]


def test_an_idle_queue_without_workers_is_not_wrong():
    """Nothing to do and nobody to do it: a fresh installation, all right."""
    assert codes() == []
    assert codes(depths=(depth(scheduled=5, running=0),)) == []


@pytest.mark.parametrize(
    ("workers", "served"),
    [
        ((), False),
        ((worker(),), True),
        ((worker(queues=["mail", "default"]),), True),
        ((worker(queues=["mail"]),), False),
        ((worker(executors=["process"]),), False),
        ((worker(lease_left=-1),), False),
        ((worker(dead=True),), False),
        ((worker(kind="solo", executors=["thread", "asyncio", "process"]),), False),
        ((worker(queues=["mail"]), worker(executors=["process"])), False),
        ((worker(queues=["mail"]), worker()), True),
    ],
)
def test_due_work_needs_a_living_worker_of_its_queue_and_executor(workers, served):
    """One living worker must serve queue and executor both; a dead, expired or solo one serves nothing."""
    assert codes(depths=(depth(ready=1),), workers=workers) == ([] if served else ["queue-without-worker"])


def test_each_queue_and_executor_is_judged_by_itself():
    """Jobs for processes are not served by threads."""
    depths = (depth(ready=1), depth(executor=PROCESS, ready=1))
    assert codes(depths=depths, workers=(worker(),)) == ["queue-without-worker"]


def test_due_jobs_that_nobody_makes_ready():
    """Without a worker they are due work of an unserved queue; with one, the worker does not do its upkeep."""
    overdue = {("default", THREAD): 3}
    assert codes(depths=(depth(scheduled=3),), overdue=overdue) == ["queue-without-worker"]
    assert codes(depths=(depth(scheduled=3),), overdue=overdue, workers=(worker(),)) == ["scheduled-overdue"]


@pytest.mark.parametrize(
    ("lease_left", "seconds", "is_wrong"), [(20, 1000, False), (-20, 1000, False), (-30, 1000, True), (-30, 1, True)]
)
def test_a_run_is_lost_once_its_worker_is_silent_for_longer_than_recovery_takes(lease_left, seconds, is_wrong):
    """How long the job runs does not matter; how long the lease is past does."""
    silent = worker(lease_left=lease_left)
    others = worker()
    found = codes(workers=(silent, others), running=(run(silent.id, seconds),))
    assert found == (["jobs-of-dead-workers"] if is_wrong else [])


@pytest.mark.parametrize(("seconds", "is_wrong"), [(5, False), (100, True)])
def test_a_run_of_a_worker_without_a_row_is_lost_unless_it_is_young(seconds, is_wrong):
    """The row is missing since nobody knows when: a young run is given the time that a sweep takes."""
    assert codes(workers=(worker(),), running=(run(uuid.uuid4(), seconds),)) == (
        ["jobs-of-dead-workers"] if is_wrong else []
    )


@pytest.mark.parametrize(("oldest", "is_wrong"), [(None, False), (299.0, False), (301.0, True)])
def test_a_queue_is_behind_once_its_oldest_ready_job_is_too_old(oldest, is_wrong):
    """Depth alone is not wrong, age is."""
    found = codes(depths=(depth(ready=1000, oldest=oldest),), workers=(worker(),))
    assert found == (["ready-too-old"] if is_wrong else [])


def test_suspects_and_quarantined_jobs_are_told():
    """Jobs that killed, or may have killed, processes are for people to look at."""
    assert codes(depths=(depth(suspects=1),), workers=(worker(),)) == ["suspects-waiting"]
    assert codes(quarantined=1) == ["quarantined"]


def test_unknown_tasks_are_told_while_jobs_wait_for_them():
    """A name that this code does not have, with the reason; a hostile name cannot leave its line."""
    assert codes(unknown={"a.b": "no such task"}, waiting_tasks={"a.b": 2, "c.d": 1}) == ["unknown-task"]
    assert codes(unknown={}, waiting_tasks={"a.b": 2}) == []
