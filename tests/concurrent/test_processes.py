"""``parallel_map(executor="process")``: real processes, real kills, real servers; nothing outlives its parent."""

import contextlib
import json
import os
import signal
import textwrap
import threading

import psutil
import pytest

from django_meanwhile.concurrent.maps import processes
from django_meanwhile.ties import describe_status, interpreter
from tests.embedded.servers import serve
from tests.playground import Playground, Project, Running, eventually

_PRELUDE = """\
import json, os, sys
from django_meanwhile.concurrent import NotAllowed, ProcessFailed, parallel_map
from django_meanwhile.concurrent.maps.processes import shared_pool
from tests.project import mapped
def say(value): print(json.dumps(value), flush=True)
def mapped_by(function, items, **options): return parallel_map(function, items, executor="process", **options)
"""
LIMITS = {"processes": 2, "idle": 60}


@pytest.fixture
def computing(playground: Playground, tmp_path):
    """A migrated project on SQLite whose pool has two processes. What is about processes needs no second vendor."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.meanwhile = {"CONCURRENT": LIMITS}
        yield project


def run(project: Project, code: str):
    """Run a script in the project; return what it said, in order."""
    done = project.python(_PRELUDE + textwrap.dedent(code))
    assert "Traceback" not in done.stderr, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def start(project: Project, code: str) -> Running:
    """Start such a script beside the test."""
    return project.start_python(_PRELUDE + textwrap.dedent(code))


def children(project: Project) -> list[psutil.Process]:
    """Return the living children of pools."""
    found = []
    for process in project.processes():
        try:
            if "concurrent.maps.callee" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def no_children(project: Project) -> None:
    """Wait until there are none."""
    eventually(lambda: not children(project), what="the pool's processes are gone")


# --- what comes back ----------------------------------------------------------------------------


def test_results_come_from_processes_that_are_kept_warm(computing) -> None:
    """Calls run in as many processes as the settings allow, none of them the caller's, the same ones later."""
    first, second, own, results = run(
        computing,
        """
        say(sorted(set(mapped_by(mapped.pid, range(20)))))
        say(sorted(set(mapped_by(mapped.pid, range(20)))))
        say(os.getpid())
        say(list(mapped_by(mapped.double, range(100), chunk_size=7)))
        """,
    )
    assert set(second) <= set(first) or len(first) < 2
    assert len(first) <= 2
    assert own not in first
    assert results == [n * 2 for n in range(100)]


def test_errors_come_back_as_they_are_with_the_childs_traceback(computing) -> None:
    """A function's own error is raised where its result would be; its cause shows the frames of the child."""
    [[got, kind, text, cause]] = run(
        computing,
        """
        got = []
        try:
            for result in mapped_by(mapped.fail_at, range(9), chunk_size=2): got.append(result)
        except KeyError as error:
            say([got, type(error).__name__, str(error), str(error.__cause__)])
        """,
    )
    assert (got, kind, text) == ([0, 1, 2], "KeyError", "'three'")
    assert "in fail_at" in cause
    assert 'raise KeyError("three")' in cause


@pytest.mark.parametrize(
    ("function", "item", "shown", "cause"),
    [
        ("odd", 1, "it raised Odd: 1 and 2 (which cannot be pickled", "raise Odd(1, 2)"),
        ("unpicklable", 1, "it returned a function, which cannot be pickled", "lambda"),
        ("leave", 3, "it raised SystemExit: 3", "sys.exit(status)"),
        ("interrupt", 1, "it raised KeyboardInterrupt", "raise KeyboardInterrupt"),
        ("vanish", 3, "the process that ran it ended; exit status 3", None),
        ("die", 1, "the process that ran it ended; exit status -9 (SIGKILL)", None),
    ],
)
def test_what_cannot_come_back_is_told(computing, function, item, shown, cause) -> None:
    """An exit, a kill, an error or result without a pickle: one error that names it, and the next call works."""
    (text, found), after = run(
        computing,
        f"""
        try:
            list(mapped_by(mapped.{function}, [{item}]))
        except ProcessFailed as error:
            say([str(error), str(error.__cause__ or "")])
        say(list(mapped_by(mapped.double, [1, 2, 3])))
        """,
    )
    assert shown in text
    assert f"tests.project.mapped.{function}" in text
    assert (cause or "") in found
    assert after == [2, 4, 6]


def test_a_process_that_dies_takes_no_other_call_with_it(computing) -> None:
    """While one caller's process is killed, another caller's calls go on and end well."""
    (other,) = run(
        computing,
        """
        import threading
        from pathlib import Path
        gate, said = Path("gate"), []
        thread = threading.Thread(target=lambda: said.extend(mapped_by(mapped.wait_for, [str(gate.absolute())])))
        thread.start()
        while not list(Path().glob("gate.*")): pass
        try: list(mapped_by(mapped.die, [1]))
        except ProcessFailed: gate.touch()
        thread.join()
        say([str(pid) for pid in said] == [path.suffix[1:] for path in Path().glob("gate.*")])
        """,
    )
    assert other is True


def test_calls_see_the_callers_surroundings(playground, tmp_path) -> None:
    """Language, time zone and the project's hooks are restored in the child, for each call anew."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.meanwhile = {"CONTEXT": ["tests.project.tenants.Tenant"], "CONCURRENT": LIMITS}
        found, after = run(
            project,
            """
            from django.utils import timezone, translation
            from tests.project import tenants
            tenants.current.set("acme")
            with translation.override("de"), timezone.override("Asia/Tokyo"):
                say(next(mapped_by(mapped.surroundings, [0])))
            tenants.current.set(None)
            say(next(mapped_by(mapped.surroundings, [0])))
            """,
        )
    assert found == {"language": "de", "time_zone": "Asia/Tokyo", "tenant": "acme"}
    assert after == {"language": "en-us", "time_zone": "America/Chicago", "tenant": None}


def test_calls_query_and_keep_no_connection(project) -> None:
    """A body uses the project's database; before and after each call its process has no connection."""
    project.meanwhile = {"CONCURRENT": {"processes": 1}}
    counts, connected = run(
        project,
        """
        keys = list(mapped_by(mapped.write_mark, ["a", "b"]))
        say(list(mapped_by(mapped.count_marks, [0])))
        say(list(mapped_by(mapped.is_connected, [0, 1])))
        from django.db import connection
        from tests.concurrent.inside import eventually
        def count():
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                               "AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
                return cursor.fetchone()[0]
        # The server ends a session a little after it was closed.
        eventually(lambda: connection.vendor != "postgresql" or count() == 0, "no session is left")
        """,
    )
    assert (counts, connected) == ([2], [False, False])


def test_a_map_within_a_process_starts_no_others(computing) -> None:
    """In a child the calls of another map run there, one after another: no processes of processes."""
    assert run(computing, "say(list(mapped_by(mapped.nested, [3])))") == [[[True, True, True]]]


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mapped_by(lambda n: n, items)", "a lambda cannot be imported"),
        ("mapped_by(nested(), items)", "stands inside a function"),
        ("mapped_by(here, items)", "is in __main__"),
        ("mapped_by(mapped.double, [mark])", "Pass its pk, and fetch it in the function"),
        ("mapped_by(mapped.double, [{'a': [mark]}])", "Pass its pk"),
        ("mapped_by(mapped.double, [Mark.objects.all()])", "Pass primary keys"),
        ("mapped_by(mapped.double, [HttpRequest()])", "a request belongs to the thread"),
        ("mapped_by(mapped.double, [open(os.devnull)])", "TextIOWrapper cannot be pickled"),
    ],
)
def test_what_cannot_go_there_is_refused_before_anything_starts(computing, call, message) -> None:
    """The error says why and what to pass instead; no process was started for it."""
    text, pids = run(
        computing,
        f"""
        import warnings; warnings.simplefilter("ignore", ResourceWarning)
        from django.http import HttpRequest
        from tests.project.models import Mark
        mark, items = Mark.objects.create(text="a"), [1]
        def here(n): return n
        def nested():
            def inner(n): return n
            return inner
        try: list({call})
        except NotAllowed as error: say(str(error))
        say(shared_pool().pids())
        """,
    )
    assert message in text
    assert pids == []


def test_settings_without_a_name_are_refused(tmp_path) -> None:
    """settings.configure() cannot reach another process: told with the variable to set."""
    import subprocess
    import sys

    code = (
        "from django.conf import settings; settings.configure(INSTALLED_APPS=['django_meanwhile']); import django; "
        "django.setup(); from django_meanwhile.concurrent import parallel_map\n"
        "parallel_map(abs, [1], executor='process')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "NotAllowed" in done.stderr
    assert "DJANGO_SETTINGS_MODULE" in done.stderr


# --- ends ---------------------------------------------------------------------------------------


def test_a_call_that_nobody_wants_is_killed(computing) -> None:
    """Closing the iterator ends a call that spins, within seconds; the next map works."""
    (after,) = run(
        computing,
        """
        import time
        from pathlib import Path
        results = mapped_by(lambda_free, [1, str(Path("spin").absolute())], ordered=False)
        next(results)
        while not list(Path().glob("spin.*")): pass
        results.close()
        pid = int(next(Path().glob("spin.*")).suffix[1:])
        end = time.monotonic() + 20
        while pid in shared_pool().pids():
            assert time.monotonic() < end
        say(list(mapped_by(mapped.double, [1])))
        """.replace("lambda_free", "mapped.spin_or_double"),
    )
    assert after == [2]


def test_a_timeout_kills_what_goes_on(computing) -> None:
    """A call that spins is a TimeoutError in time, and is not left behind."""
    (message,) = run(
        computing,
        """
        import time
        from pathlib import Path
        from types import SimpleNamespace
        from django_meanwhile.concurrent.maps import mapping
        begun = time.monotonic()
        spins = lambda: list(Path().glob("spin.*"))  # before that time stands still, on however busy a machine
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() if spins() else begun)
        mapping.real_clock = lambda: clock
        try: list(mapped_by(mapped.spin, [str(Path("spin").absolute())], timeout=0.5))
        except TimeoutError as error: say(str(error))
        pid, end = int(next(Path().glob("spin.*")).suffix[1:]), time.monotonic() + 20
        while pid in shared_pool().pids():
            assert time.monotonic() < end
        """,
    )
    assert "within 0.5 s" in message


def test_idle_processes_end(computing) -> None:
    """After MEANWHILE["CONCURRENT"]["idle"] seconds without a call there are no processes, and no thread of ours."""
    computing.meanwhile = {"CONCURRENT": {"processes": 2, "idle": 0.3}}
    threads, again = run(
        computing,
        """
        import threading, time
        list(mapped_by(mapped.double, range(8)))
        end = time.monotonic() + 20
        while shared_pool().pids() or "meanwhile-processes" in [thread.name for thread in threading.enumerate()]:
            assert time.monotonic() < end
            time.sleep(0.02)
        say([thread.name for thread in threading.enumerate()])
        say(list(mapped_by(mapped.double, [1])))
        """,
    )
    assert threads == ["MainThread"]
    assert again == [2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_die_with_their_parent(computing, number) -> None:
    """Whatever ends the parent: a child that spins, and an idle one, end with it."""
    running = start(
        computing,
        """
        from pathlib import Path
        list(mapped_by(mapped.double, range(8)))
        list(mapped_by(mapped.spin, [str(Path("spin").absolute())]))
        """,
    )
    eventually(lambda: list(computing.path.glob("spin.*")), within=30, what="a child spins")
    assert children(computing)
    running.send(number)
    running.wait()
    no_children(computing)


def test_processes_hold_nothing_of_their_parents(computing) -> None:
    """A child has its own ends of two pipes and the standard streams, none of the parent's sockets and locks."""
    (found,) = run(
        computing,
        """
        import fcntl, socket
        listening = socket.create_server(("127.0.0.1", 0)); lock = open("lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(listening.fileno(), True)
        say(next(mapped_by(mapped.descriptors, [0])))
        listening.close(); lock.close()
        """,
    )
    # The child imports ctypes, and the libffi of Debian after 13 then opens its own file: nothing of the parent.
    others = {int(fd): target for fd, target in found.items() if int(fd) > 2 and not target.startswith("/proc")}
    others = {fd: target for fd, target in others.items() if "/libffi.so" not in target}
    kinds = sorted(target.partition(":")[0] for target in others.values())
    assert kinds == ["pipe", "socket"], others
    assert found["0"] == os.devnull


def test_a_fork_of_the_parent_has_a_pool_of_its_own(computing) -> None:
    """A process that was forked off uses none of the parent's children, and the parent's go on working."""
    parents, forked, again = run(
        computing,
        """
        list(mapped_by(mapped.double, range(8)))
        say(shared_pool().pids())
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            say(sorted(set(mapped_by(mapped.pid, range(8)))))
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        say(list(mapped_by(mapped.double, [1])))
        """,
    )
    assert not set(parents) & set(forked)
    assert again == [2]
    no_children(computing)


def test_a_process_that_a_body_forked_holds_up_nobody(computing) -> None:
    """A copy that a body left behind keeps no connection open: the death of its process is noticed all the same."""
    (pid, message) = run(
        computing,
        """
        pid = next(mapped_by(mapped.leaves_a_process, [0]))
        say(pid)
        try: list(mapped_by(mapped.die, [1]))
        except ProcessFailed as error: say(str(error))
        os.kill(pid, 9)
        """,
    )
    assert pid
    assert "SIGKILL" in message


def test_code_that_cannot_be_set_up_is_told_with_its_traceback(computing) -> None:
    """If the project cannot be imported in a child, the caller gets the child's traceback, and no endless restarts."""
    message, cause = run(
        computing,
        """
        os.environ["MEANWHILE_TEST_IMPORT"] = "tests.project.no_such_module"
        try: list(mapped_by(mapped.double, [1]))
        except ProcessFailed as error:
            say(str(error)); say(str(error.__cause__))
        """,
    )
    assert "no process could be started for it" in message
    assert "No module named 'tests.project.no_such_module'" in cause


# --- real servers -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["runserver", "gunicorn", "gunicorn-preload", "gunicorn-threads", "granian-wsgi", "uvicorn"]
)
def test_a_servers_process_has_its_own_pool_and_ends_with_it(computing, kind) -> None:
    """A view's calls run in processes of its server process, which never import its __main__; SIGTERM leaves none."""
    server = serve(computing, kind, MEANWHILE_TEST_EXTRA=json.dumps({"ROOT_URLCONF": "tests.project.concurrency_urls"}))
    found = json.loads(server.get("/cores/"))
    assert found["pid"] not in found["pids"]
    assert set(found["pids"]) <= set(found["pool"])
    assert found["main"] is None
    assert {psutil.Process(pid).ppid() for pid in found["pool"]} == {found["pid"]}
    server.end(signal.SIGTERM)
    server.running.wait()
    no_children(computing)


def test_a_servers_kill_leaves_no_process(computing) -> None:
    """SIGKILL to all of gunicorn's processes while a child computes: the child ends as well."""
    server = serve(
        computing,
        "gunicorn-threads",
        MEANWHILE_TEST_EXTRA=json.dumps({"ROOT_URLCONF": "tests.project.concurrency_urls"}),
    )
    server.get("/cores/")
    left = children(computing)
    assert left
    for process in server.processes():
        if process not in left:
            with contextlib.suppress(psutil.NoSuchProcess):  # a worker that has missed its parent
                process.kill()
    no_children(computing)


# --- small parts --------------------------------------------------------------------------------


def test_exit_statuses_are_told_by_name() -> None:
    """A signal has its name; what has none, its number."""
    assert [describe_status(status) for status in (0, 3, -9, -200)] == ["0", "3", "-9 (SIGKILL)", "-200"]


def test_a_python_that_is_nowhere_is_named(monkeypatch) -> None:
    """The message lists where it was looked for."""
    for name in ("executable", "prefix", "base_prefix"):
        monkeypatch.setattr(f"sys.{name}", "/nowhere")
    with pytest.raises(FileNotFoundError, match="/nowhere/bin/python"):
        interpreter()


def test_a_thread_that_cannot_be_started_is_started_by_the_next_call(monkeypatch) -> None:
    """The call that met the system's limit fails at once; later ones are served."""

    def fail(*_):
        raise OSError("no more")

    pool = processes.Pool()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(OSError, match="no more"):
            pool.submit(b"", "first")
    monkeypatch.setattr(processes.Child, "spawn", fail)  # this, too, is told by the thread that serves
    error = pool.submit(b"", "second").exception(20)
    assert str(error) == "second: no process could be started for it: no more."
    pool.close()
