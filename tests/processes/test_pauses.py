"""SIGSTOP past the lease, then SIGCONT: whoever was paused must not write."""

import contextlib
import signal

import psutil

from tests.playground import Project, eventually

from .harness import (
    CALM,
    FAST,
    all_ended,
    audit_endings,
    children,
    enqueue,
    is_gone,
    job,
    recorded_twice,
    said,
    start_worker,
)

PATIENT = CALM | {"LEASE": 5}
THREADS = ("--threads=2", "--coroutines=0", "--processes=0")


def test_nothing_stale_is_accepted_after_a_pause_of_the_whole_worker(project: Project) -> None:
    """A supervisor and its child are stopped past the lease and continued: their outcome is discarded."""
    project.meanwhile = PATIENT
    audit_endings(project)
    paused = start_worker(project, *THREADS)
    (job_id,) = enqueue(project, "pause.enqueue('a', 8)")
    first = eventually(lambda: said(project, "begin", "a"))[0]
    family = [psutil.Process(paused.pid), *children(paused)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    start_worker(project, *THREADS)
    second = eventually(lambda: said(project, "begin", "a", times=2))[1]
    assert second.pid != first.pid
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # the supervisor, continued first, may have killed its child
            process.send_signal(signal.SIGCONT)
    eventually(lambda: all_ended(project), within=40)
    assert recorded_twice(project) == []
    row = job(project, job_id)
    assert (row["state"], row["epoch"], row["attempts"], row["interruptions"]) == (4, 2, 1, 1)
    eventually(lambda: is_gone(first.pid) or first.pid not in {p.pid for p in children(paused)})
    assert paused.is_running(), "the supervisor comes back with a new child"


def test_a_paused_child_is_replaced_and_its_jobs_run_again(project: Project) -> None:
    """A child that is stopped gets no beat, is killed after one lease, and only then do its jobs run elsewhere."""
    project.meanwhile = FAST
    audit_endings(project)
    worker = start_worker(project, *THREADS)
    (job_id,) = enqueue(project, "pause.enqueue('a', 0.5)", "pause.enqueue('b', 30)")[:1]
    first = eventually(lambda: said(project, "begin", "b"))[0]
    psutil.Process(first.pid).send_signal(signal.SIGSTOP)
    second = eventually(lambda: said(project, "begin", "b", times=2))[1]
    assert second.pid != first.pid
    assert is_gone(first.pid), "its process was still there when its job began again"
    assert recorded_twice(project) == []
    assert worker.is_running()
    assert job(project, job_id)["state"] == 4 or eventually(lambda: job(project, job_id)["state"] == 4)
