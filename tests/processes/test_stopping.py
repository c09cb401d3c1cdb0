"""SIGTERM: finish within the grace period, give the rest back uncharged, leave nothing behind."""

import signal

from tests.playground import Project, eventually

from .harness import CALM, enqueue, job, living, said, start_worker


def test_what_runs_is_finished_within_the_grace_period(project: Project) -> None:
    """After SIGTERM a running job ends SUCCESSFUL, one that waits is not begun, and the status is 0."""
    project.meanwhile = CALM | {"GRACE": 20}
    worker = start_worker(project, "--threads=1", "--coroutines=0", "--processes=0")
    first, second = enqueue(project, "pause.enqueue('a', 4.5)", "pause.enqueue('b', 4.5)")
    eventually(lambda: said(project, "begin", "a"))
    assert worker.stop() == 0
    assert job(project, first)["state"] == 4
    row = job(project, second)
    assert (row["state"], row["attempts"], row["interruptions"]) == (2, 0, 0)
    assert not said(project, "begin", "b")
    assert living(project) == set()
    assert not project.processes()


def test_what_does_not_finish_in_time_is_given_back_uncharged(project: Project) -> None:
    """After the grace period bodies are interrupted, their jobs READY again with no attempt charged."""
    project.meanwhile = CALM | {"GRACE": 1}
    worker = start_worker(project, "--threads=2", "--coroutines=2", "--processes=1")
    ids = enqueue(
        project,
        "listen.enqueue('heeds', 60)", "pause.enqueue('deaf', 60)",
        "pause_async.enqueue('async', 60)", "pause_process.enqueue('process', 60)",
    )  # fmt: skip
    for key in ("heeds", "deaf", "async", "process"):
        eventually(lambda key=key: said(project, "begin", key))
    assert worker.stop(within=30) == 0
    for job_id in ids:
        row = job(project, job_id)
        assert (row["state"], row["attempts"], row["crashes"], row["interruptions"]) == (2, 0, 0, 1)
    assert not project.processes()


def test_a_second_sigterm_means_now(project: Project) -> None:
    """The second SIGTERM does not wait for the grace period, and still loses nothing."""
    project.meanwhile = CALM | {"GRACE": 60}
    worker = start_worker(project, "--threads=2", "--coroutines=0", "--processes=0")
    (job_id,) = enqueue(project, "pause.enqueue('a', 60)")
    eventually(lambda: said(project, "begin", "a"))
    worker.send(signal.SIGTERM)
    worker.wait_for("draining")
    worker.send(signal.SIGTERM)
    assert worker.wait(within=30) == 0
    assert job(project, job_id)["state"] == 2


def test_ctrl_c_of_the_whole_group_drains_too(project: Project) -> None:
    """SIGINT to every process of the group, as a terminal sends it, drains as SIGTERM does."""
    import os

    project.meanwhile = CALM
    worker = start_worker(project, "--threads=1", "--coroutines=0", "--processes=1")
    first, second = enqueue(project, "pause.enqueue('a', 2)", "pause_process.enqueue('b', 2)")
    eventually(lambda: said(project, "begin", "a") and said(project, "begin", "b"))
    os.killpg(worker.pid, signal.SIGINT)
    assert worker.wait() == 0
    assert job(project, first)["state"] == job(project, second)["state"] == 4
