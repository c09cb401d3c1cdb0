"""``running_worker``: a real worker on the test's own database, there when the block begins, gone when it ends."""

import os
import signal

import psutil
import pytest
from django.db import connections

from django_meanwhile import JobState
from django_meanwhile.models import Worker
from django_meanwhile.testing import UnusableForTests, run_jobs, running_worker
from django_meanwhile.testing import worker as worker_module
from django_meanwhile.testing.worker import specification
from tests import watchdog
from tests.playground import eventually
from tests.project import tasks
from tests.project.models import Mark

REAL = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _as_in_a_project(settings, monkeypatch, tmp_path):
    """Let the worker import the settings of a project, not those of this test run, which start servers."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.testing.worker_base")
    settings.MEANWHILE = {"TASK_MODULES": ["tests.testing.sample"], "LEASE": 5}
    monkeypatch.setenv("MEANWHILE_TEST_PATH", str(tmp_path))
    for name, value in watchdog.run_mark().items():
        monkeypatch.setenv(name, value)


def tree(pid):
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@REAL
def test_a_worker_runs_what_the_test_enqueues(database):
    """Every executor runs in processes of the worker's own, on the test's database; nothing is left afterwards."""
    with running_worker(backend=database) as worker:
        processes = tree(worker.pid)
        results = [
            task.using(backend=database).enqueue(*args)
            for task, args in [(tasks.surroundings, ()), (tasks.nothing_async, ()), (tasks.pause_process, ("x",))]
        ]
        for result in results:
            result.wait(timeout=30)
        worker.wait_until_idle()
        assert [result.state for result in results] == [JobState.SUCCESSFUL] * 3, worker.log
        assert results[0].return_value["pid"] != os.getpid()
    assert not [process for process in processes if process.is_running()]
    assert not Worker.objects.using(database).exists()
    assert "ends: nothing left to do" in worker.log, "its last words can be read behind the block"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default"])
def test_the_worker_writes_into_the_tests_database(database):
    """What a body writes is where the test reads it; the databases that the settings name do not exist."""
    with running_worker(backend=database, threads=1, coroutines=0, processes=0) as worker:
        result = tasks.write_mark.using(backend=database).enqueue("by the worker")
        result.wait(timeout=30)
        assert result.state is JobState.SUCCESSFUL, worker.log
    # The body writes to "default", which is SQLite in this test run, whatever the queue is kept in.
    assert [mark.text for mark in Mark.objects.using("default").all()] == ["by the worker"]


@REAL
def test_a_killed_workers_job_is_run_by_the_next(database):
    """``kill()`` is a real SIGKILL: the job it ran is rescued and run again by another worker."""
    listen = tasks.listen.using(backend=database)
    with running_worker(backend=database, processes=0) as worker:
        result = listen.enqueue("x", 60)
        eventually(lambda: (result.refresh(), result.state)[1] is JobState.RUNNING, what="the job runs")
        worker.kill()
        assert not worker.is_running
    with running_worker(backend=database, processes=0, grace=0.1):
        eventually(lambda: (result.refresh(), result.epoch)[1] == 2, within=30, what="it runs again")
    result.refresh()
    assert (result.state, result.attempts) == (JobState.READY, 0), "the second worker gave it back, uncharged"


@pytest.mark.slow
@REAL
def test_a_worker_that_ends_by_itself_fails_the_test(database):
    """Its end is not overlooked: the block raises, with what the worker printed."""

    def block():
        with running_worker(backend=database) as worker:
            os.kill(worker.pid, signal.SIGTERM)
            eventually(lambda: not worker.is_running, within=30, what="it ended")

    with pytest.raises(AssertionError, match="ended by itself"):
        block()


@pytest.mark.slow
@REAL
def test_a_worker_that_cannot_start_says_why(database, settings):
    """Its output stands in the error: here, settings that are wrong."""
    settings.MEANWHILE = {"LEASE": 30, "BEAT": 29}
    with (
        pytest.raises(AssertionError, match=r"(?s)before it was ready, with status 1.*BEAT"),
        running_worker(backend=database),
    ):
        pass


@pytest.mark.slow
@REAL
def test_a_worker_ends_with_the_test_process(database):
    """Where the test process is gone, by SIGKILL too, its end of the pipe closes, and the whole worker ends."""
    with running_worker(backend=database, processes=0) as worker:
        processes = tree(worker.pid)
        worker._process.stdin.close()
        eventually(lambda: not worker.is_running, within=30, what="the supervisor ended")
        eventually(lambda: not any(process.is_running() for process in processes), what="its children ended")
        worker.stop()


@pytest.mark.slow
@REAL
def test_waiting_for_idle_has_an_end(database):
    """A job that goes on is told as such, with the worker's log."""
    with running_worker(backend=database, processes=0, grace=0.1) as worker:
        tasks.listen.using(backend=database).enqueue("x", 60)
        with pytest.raises(TimeoutError, match=r"after 0\.2 s jobs are still due or running: 1\."):
            worker.wait_until_idle(0.2)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_transaction_is_refused(database):
    """In a ``TestCase`` a worker would see nothing: the error names the other kinds of test."""
    with pytest.raises(
        UnusableForTests, match=r"inside a transaction.*TransactionTestCase.*transaction=True.*run_jobs"
    ):
        running_worker(backend=database).__enter__()


@REAL
def test_settings_without_a_module_are_refused(database, monkeypatch):
    """Processes import settings by name."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(UnusableForTests, match="DJANGO_SETTINGS_MODULE"):
        specification(database)


@REAL
def test_a_memory_database_is_refused_with_the_line_to_write(database, monkeypatch):
    """The default test database of SQLite cannot be shared: the setting to write is in the error."""
    monkeypatch.setattr(worker_module, "_is_in_memory", lambda alias: True)
    with pytest.raises(UnusableForTests, match=rf'DATABASES\["{database}"\]\["TEST"\] = .*BASE_DIR'):
        specification(database)


@REAL
def test_a_database_that_is_no_tests_is_refused(database, monkeypatch):
    """A worker never works on the configured database, whatever went wrong before."""
    monkeypatch.setitem(connections[database].settings_dict, "NAME", "production")
    with pytest.raises(UnusableForTests, match="'production', which was not made for tests"):
        specification(database)


@pytest.mark.parametrize(
    ("name", "test_name", "expected"),
    [
        ("test_shop", None, True),
        ("shop", None, False),
        ("/var/db/test_shop.sqlite3", None, True),
        ("/x/t.sqlite3", "/x/t.sqlite3", True),
        ("/x/t_2.sqlite3", "/x/t.sqlite3", True),
        ("/x/shop.sqlite3", "/x/t.sqlite3", False),
        ("t_gw1", "t", True),
    ],
)
def test_test_databases_are_known_by_their_names(monkeypatch, name, test_name, expected):
    """Django's prefix, the configured name, and clones of it for parallel runs; nothing else."""
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)
    monkeypatch.setitem(connections["default"].settings_dict, "TEST", {"NAME": test_name})
    assert worker_module._is_of_a_test("default") is expected


@REAL
def test_other_databases_are_out_of_reach(database, settings, monkeypatch):
    """An alias that the runner has not replaced is not given to the worker."""
    monkeypatch.setitem(connections["other"].settings_dict, "NAME", "production")
    assert set(specification(database)["databases"]) >= {database}
    assert "other" not in specification(database)["databases"]


@pytest.mark.django_db
def test_nothing_starts_by_itself(database):
    """Enqueueing and running jobs in a test starts no process."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    tasks.add.using(backend=database).enqueue(1, 2)
    run_jobs(backend=database)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
