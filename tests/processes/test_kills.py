"""SIGKILL at random: nothing lost, nothing recorded twice, recovery in bounded time."""

import random
import time

import psutil
import pytest

from tests.playground import Project, eventually

from .harness import (
    FAST,
    all_ended,
    audit_endings,
    children,
    enqueue,
    is_gone,
    kill,
    recorded_twice,
    said,
    start_worker,
    states,
    truth,
)

JOBS, KILLS = 600, 30
TASKS = {"thread": "pause", "asyncio": "pause_async", "process": "pause_process"}
SECONDS = {"thread": 0.4, "asyncio": 0.7, "process": 0.15}
"""How long a job takes: all of them last longer than the thirty kills."""
FLAGS = {
    "thread": ("--threads=4", "--coroutines=0", "--processes=0"),
    "asyncio": ("--threads=0", "--coroutines=8", "--processes=0"),
    "process": ("--threads=0", "--coroutines=0", "--processes=2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["thread", "asyncio", "process"])
def test_no_job_is_lost_and_none_is_recorded_twice(project: Project, executor: str) -> None:
    """Thirty random SIGKILLs of child, supervisor and both over 600 jobs: lost 0, recorded twice 0."""
    dice = random.Random(f"{executor}-{project.vendor}")
    project.meanwhile = FAST
    audit_endings(project)
    enqueue(project, f"*{TASKS[executor]}.enqueue_many([(str(n), {SECONDS[executor]}) for n in range({JOBS})])")
    workers = [start_worker(project, *FLAGS[executor]) for _ in range(2)]
    for _ in range(KILLS):
        before = len(truth(project))
        eventually(lambda before=before: len(truth(project)) >= before + 2, within=30)
        time.sleep(dice.uniform(0, 0.3))  # a random moment is what is tested, not something to wait for
        index = dice.randrange(2)
        victim = dice.choice(["child", "supervisor", "both"])
        doomed = children(workers[index])
        if victim != "supervisor" and doomed:
            kill([dice.choice(doomed)])
        if victim != "child":
            workers[index].kill()
            workers[index] = project.start("meanwhile", "worker", *FLAGS[executor])
    assert not all_ended(project), "the last kills hit nobody: make the jobs longer"
    eventually(lambda: all_ended(project), within=120, what="all jobs have ended")
    lines = truth(project)
    ended = {line.key for line in lines if line.word == "end"}
    assert ended == {str(n) for n in range(JOBS)}, "lost"
    assert states(project) == {4: JOBS}
    assert recorded_twice(project) == []
    for worker in workers:
        eventually(lambda worker=worker: children(worker), what="the last one that was started heeds signals")
        assert worker.stop() == 0
    assert not project.processes()


@pytest.mark.alone
def test_jobs_of_a_killed_child_run_again_within_two_seconds(project: Project) -> None:
    """A child's jobs are begun again at most 2 s after its SIGKILL."""
    project.meanwhile = FAST
    worker = start_worker(project, "--threads=2", "--coroutines=0", "--processes=0")
    enqueue(project, "pause.enqueue('a', 4)")
    first = eventually(lambda: said(project, "begin", "a"))[0]
    killed_at = time.monotonic()
    kill([psutil.Process(first.pid)])
    second = eventually(lambda: said(project, "begin", "a", times=2))[1]
    assert second.at - killed_at <= 2
    assert second.pid != first.pid
    eventually(lambda: all_ended(project))
    assert worker.stop() == 0


@pytest.mark.alone
def test_jobs_of_a_killed_supervisor_run_again_within_lease_plus_sweep_plus_one(project: Project) -> None:
    """A supervisor's jobs are begun by another worker at most lease + sweep + 1 s after its SIGKILL."""
    project.meanwhile = FAST
    doomed = start_worker(project, "--threads=2", "--coroutines=0", "--processes=0")
    enqueue(project, "pause.enqueue('a', 8)")
    first = eventually(lambda: said(project, "begin", "a"))[0]
    start_worker(project, "--threads=2", "--coroutines=0", "--processes=0")
    killed_at = time.monotonic()
    doomed.kill()
    eventually(lambda: is_gone(first.pid), within=1, what="the child died with its supervisor")
    second = eventually(lambda: said(project, "begin", "a", times=2))[1]
    assert second.at - killed_at <= FAST["LEASE"] + FAST["SWEEP"] + 1
