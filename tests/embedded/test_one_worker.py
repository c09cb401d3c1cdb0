"""One worker per host and project at every moment, and none where none belongs."""

import contextlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Self

import pytest

from django_meanwhile.embedded import keeper as keepers
from tests.playground import Playground, Project, eventually
from tests.processes.harness import enqueue, said

from .servers import EMBEDDED, serve, supervisors, workers_tree


class Census:
    """Counts the workers of a project all the time, in a thread."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._over = threading.Event()
        self.largest = 0
        self.seen: set[int] = set()
        self._thread = threading.Thread(target=self._count)

    def _count(self) -> None:
        while not self._over.wait(0.02):
            pids = {process.pid for process in supervisors(self._project)}
            self.seen |= pids
            self.largest = max(self.largest, len(pids))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


SAYS_WHEN_IT_IS_WATCHED = """
import logging
from django.utils.autoreload import autoreload_started

def say(record):
    if record.msg == "File %s first seen with mtime %s" and record.args[0].name == "watched.py":
        print("it is watched", flush=True)
    return True

def listen(**_):
    logger = logging.getLogger("django.utils.autoreload")
    logger.setLevel("DEBUG")
    logger.addFilter(say)

autoreload_started.connect(listen)
"""
"""A save before the reloader has begun to watch goes unseen; a second one may make it begin anew twice."""


def _newest(census: Census, before: set[int]) -> set[int]:
    return census.seen - before


@pytest.mark.slow
def test_ten_reloads_of_four_processes(site: Project) -> None:
    """Four processes of gunicorn, told to reload ten times in a row: a new worker each time, never two."""
    server = serve(site, "gunicorn")
    with Census(site) as census:
        for _ in range(11):
            before = set(census.seen)
            # An old one that is missed here may answer the only request below, and end with the worker that it has.
            old = {process.pid for process in server.processes()}
            eventually(lambda: server.get("/inside/"), what="it answers")
            eventually(lambda before=before: _newest(census, before), within=30, what="a new worker is there")
            server.running.send(signal.SIGHUP)
            eventually(
                lambda old=old: len((new := {each.pid for each in server.processes()}) & old) == 1 and len(new) == 5,
                within=30,
                what="all processes but the first are new",
            )
    assert census.largest == 1
    assert len(census.seen) >= 11
    server.end(signal.SIGKILL)


@pytest.mark.slow
def test_ten_reloads_of_runserver(site: Project) -> None:
    """Ten saves of a file in a row: runserver starts anew, and so does the worker; never two of them."""
    module = site.path / "watched.py"
    module.write_text(SAYS_WHEN_IT_IS_WATCHED)
    written = module.stat().st_mtime
    path = f"{site.env['PYTHONPATH']}{os.pathsep}{site.path}"
    server = serve(site, "runserver", PYTHONPATH=path, MEANWHILE_TEST_IMPORT="watched")
    with Census(site) as census:
        before, told = set[int](), 0
        for number in range(11):
            eventually(lambda before=before: _newest(census, before), within=60, what="a new worker is there")
            with contextlib.suppress(AssertionError):  # then the save itself tells
                eventually(lambda told=told: server.running.log.count("it is watched") > told, within=20)
            told = server.running.log.count("it is watched")
            before = set(census.seen)
            if number < 10:
                written += 1  # the reloader goes by times alone
                os.utime(module, (written, written))
    assert census.largest == 1
    assert len(census.seen) == 11
    server.end(signal.SIGKILL)


@pytest.mark.slow
def test_four_servers_share_one_worker(site: Project) -> None:
    """Four servers of one project have one worker; whenever the one that brought it dies, another one's follows."""
    servers = [serve(site, "runserver-noreload") for _ in range(4)]
    with Census(site) as census:
        while True:
            (worker,) = eventually(lambda: supervisors(site), what="a worker is there")
            eventually(lambda worker=worker: worker.pid in census.seen, what="it is counted")
            owner = next(server for server in servers if server.running.pid == worker.ppid())
            servers.remove(owner)
            owner.running.kill()
            if not servers:
                break
            eventually(
                lambda worker=worker: {each.pid for each in supervisors(site)} - {worker.pid},
                within=20,
                what="another server's worker is there",
            )
    assert census.largest == 1
    assert len(census.seen) == 4


# --- where none belongs -----------------------------------------------------------------------------


def test_handlers_of_a_server_are_its_own(site: Project) -> None:
    """A server has the same signal handlers with an embedded worker as without, and one thread more."""
    for kind in ("runserver-noreload", "gunicorn", "uvicorn"):
        found = []
        for embedded in (True, False):
            site.meanwhile = EMBEDDED | {"EMBEDDED": embedded}
            server = serve(site, kind)
            server.get("/inside/")
            found.append(json.loads(server.get("/inside/")))
            server.end(signal.SIGKILL)
            eventually(lambda: not workers_tree(site))
        there, without = found
        assert there["handlers"] == without["handlers"], kind
        assert [name for name in there["threads"] if name.startswith("meanwhile")] == ["meanwhile-keeper"], kind
        assert not [name for name in without["threads"] if name.startswith("meanwhile")], kind


def test_only_a_process_that_has_served_brings_one(site: Project) -> None:
    """The first process of gunicorn, which has preloaded the project, and a server nobody has asked, have no worker."""
    server = serve(site, "gunicorn-preload")
    eventually(lambda: len(server.processes()) == 5)
    assert not supervisors(site)
    server.get("/inside/")
    (worker,) = eventually(lambda: supervisors(site))
    assert worker.ppid() != server.running.pid
    server.end(signal.SIGKILL)


def test_commands_and_scripts_bring_none(site: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Management commands, the test client in a shell, a script that enqueues: no worker, whatever the setting."""
    monkeypatch.setenv("TMPDIR", str(site.path))  # where a lock would be
    shell = "from tests.project.tasks import nothing; nothing.enqueue()"
    client = "from django.test import Client; assert Client(SERVER_NAME='localhost').get('/inside/').status_code == 200"
    site.manage("shell", "-c", shell)
    site.manage("shell", "-c", client)
    site.manage("check")
    site.manage("runserver", "--help")
    site.python(shell)
    assert not site.sql("SELECT id FROM meanwhile_worker")
    assert not list(site.path.glob("django-meanwhile-*"))


def test_a_test_runner_brings_none(site: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live server under a test runner serves real requests, and has no worker."""
    monkeypatch.setenv("TMPDIR", str(site.path))
    code = """
import os, urllib.request
from django.test import LiveServerTestCase, override_settings
from django.test.utils import get_runner
from django.conf import settings
@override_settings(STATIC_URL="/static/")
class TestLive(LiveServerTestCase):
    def test_it(self):
        urllib.request.urlopen(self.live_server_url + "/inside/").close()
        from django_meanwhile import embedded
        assert not embedded.start()
import sys, unittest
runner = get_runner(settings)(verbosity=0)
runner.setup_test_environment()
old = runner.setup_databases()
result = runner.run_suite(unittest.defaultTestLoader.loadTestsFromTestCase(TestLive))
assert result.wasSuccessful() and result.testsRun == 1
"""
    site.python(code)
    assert not list(site.path.glob("**/*.lock"))


def test_setting_off_brings_none(site: Project) -> None:
    """EMBEDDED False: the server answers, and no worker comes along."""
    site.meanwhile = EMBEDDED | {"EMBEDDED": False}
    server = serve(site, "runserver-noreload")
    server.get("/inside/")
    assert not supervisors(site)
    server.end(signal.SIGKILL)


def test_a_hook_can_start_it(site: Project) -> None:
    """``embedded.start()`` brings it without the setting, is idempotent, and ``stop()`` ends it; it can start again."""
    site.meanwhile = EMBEDDED | {"EMBEDDED": False}
    code = """
from django_meanwhile import embedded
from tests.project.tasks import pause
for key in ("first", "second"):
    assert embedded.start() and embedded.start()
    pause.enqueue(key).wait(timeout=60)
    assert embedded.stop(timeout=10) and embedded.stop()
"""
    site.python(code)
    assert said(site, "end", "first")
    assert said(site, "end", "second")
    eventually(lambda: not site.processes())


# --- a start that fails -----------------------------------------------------------------------------


def test_it_waits_for_the_tables(playground: Playground, tmp_path: Path) -> None:
    """A server that is started before ``migrate``: the worker says what to run, and works as soon as that was done."""
    with playground.project("sqlite", tmp_path, migrated=False) as project:
        project.meanwhile = dict(EMBEDDED)
        server = serve(project, "runserver-noreload")
        server.running.wait_for("Run: manage.py migrate meanwhile")
        for _ in range(3):  # time in which it looks again, and says nothing
            project.manage("check")
        project.migrate()
        server.enqueue("pause", "done")
        eventually(lambda: said(project, "end", "done"))
        assert server.running.log.count("manage.py migrate meanwhile") == 1
        server.end(signal.SIGKILL)


def test_wrong_settings_are_said_once(site: Project) -> None:
    """A worker that cannot start for its settings says why, and is not started again and again."""
    site.meanwhile = EMBEDDED | {"LEASSE": 3}
    server = serve(site, "gunicorn-threads")
    server.get("/inside/")
    log = server.running.wait_for("has no embedded worker: mend what it said")
    assert "unknown key 'LEASSE'" in log
    assert not workers_tree(site)
    server.end(signal.SIGKILL)


def test_a_worker_that_cannot_live_is_started_less_and_less_often(site: Project) -> None:
    """Killed at once each time, the worker is started again after twice the time, and each death is logged."""
    server = serve(site, "runserver-noreload")
    delays = []
    for _ in range(3):
        (worker,) = eventually(lambda: supervisors(site))
        worker.kill()
        count = len(delays) + 1
        eventually(lambda count=count: server.running.log.count("ended by itself") == count)
        line = [line for line in server.running.log.splitlines() if "ended by itself" in line][-1]
        delays.append(float(line.rpartition(" in ")[2].removesuffix(" s")))
        assert "-9 (SIGKILL)" in line
    assert delays == [0.5, 1, 2]
    server.end(signal.SIGKILL)


def test_a_lock_that_was_removed_is_made_again(site: Project) -> None:
    """Somebody empties the temporary directory: the next worker finds its way."""
    server = serve(site, "gunicorn-threads")
    server.get("/inside/")
    (worker,) = eventually(lambda: supervisors(site))
    for directory in site.path.glob("django-meanwhile-*"):
        shutil.rmtree(directory)
    worker.kill()
    server.enqueue("pause", "done")
    eventually(lambda: said(site, "end", "done"))
    server.end(signal.SIGKILL)


def test_code_that_fails_its_checks_runs_no_job(site: Project) -> None:
    """Where runserver refuses to serve, its worker refuses to work."""
    enqueue(site, "pause.enqueue('never')")
    check = "@checks.register\ndef broken(**_):\n    return [checks.Error('broken', id='x.E1')]\n"
    module = f"from django.core import checks\n\n\n{check}"
    (site.path / "fails_checks.py").write_text(module)
    path = f"{site.env['PYTHONPATH']}{os.pathsep}{site.path}"
    env = {"TMPDIR": str(site.path), "PYTHONPATH": path, "MEANWHILE_TEST_IMPORT": "fails_checks"}
    running = site.start("runserver", "127.0.0.1:0", **env)
    running.wait_for("has no embedded worker: mend what it said")
    assert "the embedded worker cannot start" in running.log
    assert not said(site, "begin", "never")
    running.kill()


def test_code_that_does_not_import_is_said_in_one_line(site: Project) -> None:
    """A syntax error: the worker says where, in one line, and is not started again and again."""
    (site.path / "broken.py").write_text("x = 1\ndef f(:\n")
    path = f"{site.env['PYTHONPATH']}{os.pathsep}{site.path}"
    site.meanwhile = EMBEDDED | {"TASK_MODULES": ["broken"]}
    server = serve(site, "gunicorn-threads", PYTHONPATH=path)
    server.get("/inside/")
    log = server.running.wait_for("has no embedded worker: mend what it said")
    (line,) = [line for line in log.splitlines() if "the embedded worker cannot start" in line]
    assert "broken.py" in line
    assert "line 2" in line
    server.end(signal.SIGKILL)


def test_forks_of_a_busy_server_do_not_hang(site: Project) -> None:
    """A process that has a keeper forks while its threads serve requests and enqueue: each fork goes on."""
    code = """
import os, signal, threading
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.db import connection
from django_meanwhile import embedded
assert embedded.start()
over = threading.Event()
def serve():
    while not over.is_set():
        request_started.send(WSGIHandler, environ={})
        embedded.start()
for _ in range(3):
    threading.Thread(target=serve, daemon=True).start()
for number in range(60):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        embedded._on_request(WSGIHandler)
        embedded.start()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, number
over.set()
assert embedded.stop(10)
"""
    site.python(code)
    eventually(lambda: not site.processes())


def test_greenlets_have_none_and_are_told(site: Project) -> None:
    """Under gevent, which replaces threads, there is no embedded worker: one line says so, and the server is unhurt."""
    server = serve(site, "gunicorn-gevent")
    for _ in range(3):
        server.get("/inside/")
    server.enqueue("nothing")
    assert server.running.log.count("whose threads gevent has replaced") == 1
    assert not supervisors(site)
    assert server.running.stop() == 0


def test_a_system_without_room_is_tried_again(monkeypatch, caplog, tmp_path) -> None:
    """A start that the system refuses (no memory, no processes) is tried again later, and leaks no descriptor."""
    tries = threading.Semaphore(0)

    def refuse(*_: object, **__: object) -> None:
        tries.release()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(keepers.subprocess, "Popen", refuse)
    monkeypatch.setattr(keepers, "RESTART_FIRST", 0.01)
    monkeypatch.setattr(keepers, "lock_path", lambda *_: tmp_path / "a.lock")
    keeper = keepers.Keeper("default", "default")
    before = _descriptors()
    keeper.start()
    for _ in range(3):
        assert tries.acquire(timeout=10)
    keeper.stop()
    assert keeper.join(10)
    assert "could not be started: [Errno 11]" in caplog.text
    assert _descriptors() <= before  # another thread of this process may have closed one


def _descriptors() -> set[tuple[int, int, int]]:
    """Return what this process has open: numbers, and what they are."""
    found = set()
    for number in (int(each.name) for each in Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):  # that of the directory itself
            what = os.fstat(number)
            found.add((number, what.st_dev, what.st_ino))
    return found
