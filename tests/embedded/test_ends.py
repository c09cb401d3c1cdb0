"""However its server ends, the worker is gone soon after, and its jobs are given back and run again."""

import os
import signal
import threading
import time

import psutil
import pytest

from tests.playground import Playground, Project, eventually
from tests.processes.harness import enqueue, job, kill, said

from .servers import EMBEDDED, Server, serve, supervisors, wait_for_worker, workers_tree

GONE_WITHIN = 3.0
AGAIN_WITHIN = 5.0

ENDS = [
    ("runserver", signal.SIGINT),
    ("runserver", signal.SIGKILL),
    ("runserver-noreload", signal.SIGTERM),
    ("runserver-noreload", signal.SIGKILL),
    ("gunicorn", signal.SIGTERM),
    ("gunicorn", signal.SIGKILL),
    ("gunicorn-threads", signal.SIGINT),
    ("gunicorn-preload", signal.SIGKILL),
    ("uvicorn", signal.SIGTERM),
    ("uvicorn-workers", signal.SIGKILL),
    ("granian", signal.SIGTERM),
    ("granian-wsgi", signal.SIGKILL),
    ("serve-wsgi", signal.SIGTERM),
    ("serve-asgi", signal.SIGINT),
    ("serve-asgi", signal.SIGKILL),
    ("serve-reload", signal.SIGINT),
]


def _ends(project: Project, kind: str, number: int) -> None:
    """End a server under whose worker a job of 60 s runs; then start it again."""
    server = serve(project, kind)
    job_id = server.enqueue("pause_process", "long", 60)
    eventually(lambda: said(project, "begin", "long"), within=30, what="the job runs")
    server.end(number)
    eventually(lambda: not server.processes(), what="the server is gone")
    gone = time.monotonic()
    eventually(lambda: not workers_tree(project), what="the worker is gone")
    assert time.monotonic() - gone <= GONE_WITHIN
    row = job(project, job_id)
    assert (row["state"], row["attempts"], row["crashes"], row["interruptions"]) == (2, 0, 0, 1), "given back uncharged"

    again = serve(project, kind)
    again.get("/inside/")
    up = time.monotonic()
    eventually(lambda: said(project, "begin", "long", 2), what="the job runs again")
    assert time.monotonic() - up <= AGAIN_WITHIN
    again.end(signal.SIGKILL)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), ENDS, ids=lambda value: getattr(value, "name", value))
def test_a_worker_ends_with_its_server(site: Project, kind: str, number: int) -> None:
    """The worker is gone 3 s after its server, its job READY and uncharged; 5 s after the next server it runs."""
    _ends(site, kind, number)


@pytest.mark.alone  # a server waits 3 s for its worker, and no longer
@pytest.mark.parametrize(
    "kind", ["gunicorn", "gunicorn-threads", "granian", "granian-wsgi", "serve-wsgi", "serve-asgi"]
)
def test_a_server_that_ends_in_good_order_waits_for_its_worker(site: Project, kind: str) -> None:
    """When its last process is gone, the worker is gone and the job given back: a container may end with the server."""
    server = serve(site, kind)
    job_id = server.enqueue("pause_process", "long", 60)
    eventually(lambda: said(site, "begin", "long"), within=30)
    server.end(signal.SIGTERM)
    server.running.wait()
    assert not workers_tree(site)
    assert job(site, job_id)["state"] == 2


def _last_request(site: Project, server: Server, *, owner: bool) -> tuple[threading.Thread, str]:
    """Ask for a page that waits, of the server process that brought the worker along, or of another one."""
    server.get("/inside/")
    wait_for_worker(site)
    (supervisor,) = supervisors(site)
    for number in range(100):
        key = f"last-request-{number}"
        asking = threading.Thread(target=server.get, args=(f"/slow/{key}/",))
        asking.start()
        (line,) = eventually(lambda key=key: said(site, "asked", key), within=30)
        if (line.pid == supervisor.ppid()) == owner:
            return asking, key
        (site.path / key).touch()
        asking.join()
    pytest.fail("gunicorn gave all requests to one process")


@pytest.mark.alone  # the grace period is one second
@pytest.mark.parametrize("owner", [True, False], ids=["its-own-process-answers", "another-process-answers"])
def test_a_signal_to_everybody_is_one_signal(site: Project, *, owner: bool) -> None:
    """SIGTERM to the server and its worker alike, as a service manager sends it: a job that ends within the grace
    period is finished, and while the server still answers its last request nobody starts another worker.
    """
    server = serve(site, "gunicorn-threads")
    answered, key = _last_request(site, server, owner=owner)
    job_id = server.enqueue("pause_process", "short", 0.7)
    eventually(lambda: said(site, "begin", "short"), within=30)
    kill(site.processes(), signal.SIGTERM)
    eventually(lambda: not workers_tree(site))
    assert job(site, job_id)["state"] == 4
    waiting = enqueue(site, "pause.enqueue('later', 0)")[0]
    another = []
    for _ in range(20):  # four times as long as another would take to be started
        another += supervisors(site)
        time.sleep(0.1)
    (site.path / key).touch()
    answered.join()
    assert not another
    server.running.wait()
    assert job(site, waiting)["state"] == 2
    again = serve(site, "gunicorn-threads")
    again.get("/inside/")
    eventually(lambda: said(site, "end", "later"), what="a server that came since has a worker at once")
    again.end(signal.SIGKILL)


def test_a_child_that_is_replaced_leaves_its_jobs_the_whole_grace_period(site: Project) -> None:
    """A child that has run its ``max_tasks`` is replaced: a job that runs on in it is finished, however long the
    embedded worker would give it at the end of the server.
    """
    site.meanwhile = EMBEDDED | {"GRACE": 30, "WORKER": {"threads": 2, "coroutines": 0, "processes": 0, "max_tasks": 2}}
    server = serve(site, "gunicorn-threads")
    job_id = server.enqueue("pause", "long", 4)
    eventually(lambda: said(site, "begin", "long"), within=30)
    server.enqueue("pause", "short")
    eventually(lambda: said(site, "end", "long"), within=30)
    eventually(lambda: job(site, job_id)["state"] == 4)
    assert len(said(site, "begin", "long")) == 1
    server.end(signal.SIGKILL)


@pytest.mark.alone
def test_a_slow_end_of_the_interpreter_holds_no_worker(site: Project) -> None:
    """Objects that take long to die, in the worker's first process: it does not wait for them."""
    module = "import time\nclass Slow:\n    def __del__(self, sleep=time.sleep):\n        sleep(20)\nslow = Slow()\n"
    (site.path / "slow_to_die.py").write_text(module)
    path = f"{site.env['PYTHONPATH']}{os.pathsep}{site.path}"
    server = serve(site, "gunicorn", PYTHONPATH=path, MEANWHILE_TEST_IMPORT="slow_to_die")
    server.get("/inside/")
    wait_for_worker(site)
    server.end(signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: not workers_tree(site))
    assert time.monotonic() - began <= GONE_WITHIN


@pytest.mark.alone
def test_a_worker_ends_with_its_server_on_each_database(project: Project) -> None:
    """The same, on each vendor, with the server that most people meet first."""
    project.meanwhile = dict(EMBEDDED)
    _ends(project, "runserver", signal.SIGKILL)


@pytest.mark.alone
def test_bodies_that_heed_nothing_do_not_hold_the_worker(site: Project) -> None:
    """A thread that sleeps and a process that swallows what is raised into it: gone within 3 s all the same."""
    server = serve(site, "runserver-noreload")
    ids = [server.enqueue("pause", "thread", 60), server.enqueue("deaf_process", "deaf", 60)]
    for key in ("thread", "deaf"):
        eventually(lambda key=key: said(site, "begin", key), within=30)
    server.end(signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: not workers_tree(site))
    assert time.monotonic() - began <= GONE_WITHIN
    assert job(site, ids[0])["state"] == 2


@pytest.mark.alone
def test_a_database_that_hangs_does_not_hold_the_worker(private_postgresql, playground, tmp_path) -> None:
    """With every process of PostgreSQL stopped, the worker is gone within 3 s of its server's end."""
    ground = Playground(private_postgresql, playground._unblocked)
    with ground.project("postgresql", tmp_path, migrated=True) as project:
        project.meanwhile = dict(EMBEDDED)
        server = serve(project, "runserver-noreload")
        server.enqueue("pause", "thread", 60)
        eventually(lambda: said(project, "begin", "thread"), within=30)
        postgres = psutil.Process(int((private_postgresql.data / "postmaster.pid").read_text().split()[0]))
        processes = [postgres, *postgres.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            server.end(signal.SIGKILL)
            began = time.monotonic()
            eventually(lambda: not workers_tree(project))
            assert time.monotonic() - began <= GONE_WITHIN
        finally:
            for process in processes:
                process.resume()


@pytest.mark.alone
def test_the_jobs_of_a_tree_that_was_killed_whole_run_again_at_once(project: Project) -> None:
    """Server and worker killed together: the next worker knows whose rows are dead, and waits for no lease (30 s)."""
    project.meanwhile = dict(EMBEDDED)
    server = serve(project, "gunicorn")
    server.enqueue("pause_process", "long", 60)
    eventually(lambda: said(project, "begin", "long"), within=30)
    kill(project.processes())
    eventually(lambda: not project.processes())

    again = serve(project, "gunicorn")
    again.get("/inside/")
    up = time.monotonic()
    eventually(lambda: said(project, "begin", "long", 2), what="the job runs again")
    assert time.monotonic() - up <= AGAIN_WITHIN
    again.end(signal.SIGKILL)


def test_a_worker_that_dies_is_replaced_and_reaped(site: Project) -> None:
    """SIGKILL of the worker: the server starts another, which runs the job again; the dead one is no zombie."""
    server = serve(site, "gunicorn-threads")
    server.enqueue("pause_process", "long", 60)
    eventually(lambda: said(site, "begin", "long"), within=30)
    (worker,) = supervisors(site)
    worker.kill()
    eventually(lambda: said(site, "begin", "long", 2), what="another worker runs it")
    (other,) = supervisors(site)
    assert other.pid != worker.pid
    assert not psutil.pid_exists(worker.pid)
    server.end(signal.SIGKILL)


@pytest.mark.alone
def test_what_a_server_forks_keeps_no_worker(site: Project) -> None:
    """A forked copy of the server that lives on does not keep the leash: the worker is gone with the server."""
    server = serve(site, "runserver-noreload")
    wait_for_worker(site)
    fork = int(server.get("/fork/"))
    server.running.kill()
    began = time.monotonic()
    try:
        eventually(lambda: not workers_tree(site))
        assert time.monotonic() - began <= GONE_WITHIN
        assert psutil.pid_exists(fork)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_what_a_body_leaves_behind_keeps_no_lock(site: Project) -> None:
    """Processes that a job forked or started, and that outlive its worker, do not keep the next worker away."""
    server = serve(site, "runserver-noreload")
    server.enqueue("leaves_processes", "strays")
    eventually(lambda: said(site, "end", "strays"), within=30)
    server.running.kill()
    eventually(lambda: not supervisors(site))
    strays = [process for process in site.processes() if _name_of(process) == "sleep"]
    assert strays, "the program that the body started lives on"
    again = serve(site, "runserver-noreload")
    again.enqueue("pause", "next")
    eventually(lambda: said(site, "end", "next"), what="the next worker works")
    assert strays[0].is_running()
    again.end(signal.SIGKILL)


def _name_of(process: psutil.Process) -> str | None:
    try:
        return process.name()
    except psutil.NoSuchProcess:  # it was about to end, with its worker
        return None
