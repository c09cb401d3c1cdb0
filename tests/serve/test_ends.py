"""However ``manage.py serve`` ends: no request that it has taken is lost, and nothing is left behind."""

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.embedded.servers import EMBEDDED, supervisors
from tests.playground import Project, eventually
from tests.processes.harness import said

from .served import BOTH, ask, ask_slowly, serve, with_code

pytestmark = pytest.mark.slow

FOR_EVER = """
import pathlib
from django.urls import include, path

def for_ever(request):
    pathlib.Path("computes").touch()
    while True:
        pass

async def afor_ever(request):
    for_ever(request)

urlpatterns = [
    path("", include("tests.project.urls")), path("for-ever/", for_ever), path("afor-ever/", afor_ever)
]
"""


MISSES_ONE = """
from django_meanwhile.serve import signals
from tests.project.urls import urlpatterns

heed, missed = signals._end, []

def miss_the_first(*functions):
    if missed:
        heed(*functions)
    missed.append(True)

signals._end = miss_the_first
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda value: value.name)
@pytest.mark.parametrize("interface", BOTH)
def test_a_request_that_runs_is_answered(site: Project, interface: str, number: int) -> None:
    """SIGTERM while a request runs: no new connection is taken, the answer is sent, the exit status is 0."""
    served = serve(site, interface, "--workers=2")
    thread, answers = ask_slowly(served, "last")
    served.running.send(number)
    eventually(served.refuses, within=20, what="it takes no more connections")
    assert served.running.is_running()
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    assert served.running.wait(20) == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")
    assert "Unexpected exit" not in served.running.log


@pytest.mark.parametrize("interface", BOTH)
def test_a_process_that_misses_its_signal_is_told_again(site: Project, interface: str) -> None:
    """A handler may be run only when the next signal comes; the end is not put off until the process is killed."""
    code = with_code(site, site_urls=MISSES_ONE)
    served = serve(site, interface, settings={"ROOT_URLCONF": "site_urls"}, **code)
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0, served.running.log
    assert "is killed" not in served.running.log


def test_who_comes_while_it_ends_is_refused(site: Project) -> None:
    """Four processes, one of which still answers: a connection is refused at once, by whichever socket it would have
    been; none waits for a process that is gone.
    """
    served = serve(site, "--workers=4")
    thread, answers = ask_slowly(served, "last")
    served.running.send(signal.SIGTERM)
    eventually(lambda: len(served.workers()) == 1, within=20, what="the others have ended")
    eventually(served.refuses, within=20)
    for _ in range(40):
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", served.port))
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    assert served.running.wait(20) == 0, served.running.log


def test_a_signal_to_all_of_its_processes_is_an_orderly_end(site: Project) -> None:
    """Ctrl-C reaches the whole group, and a service manager may signal each process: exit status 0, no complaint."""
    served = serve(site, "--workers=2")
    thread, answers = ask_slowly(served, "last")
    os.killpg(served.running.pid, signal.SIGINT)
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    assert served.running.wait(20) == 0, served.running.log
    assert "Unexpected exit" not in served.running.log
    assert "Traceback" not in served.running.log


@pytest.mark.parametrize("interface", BOTH)
def test_idle_connections_do_not_hold_it(site: Project, interface: str) -> None:
    """One that is kept alive after an answer, and one that has not asked yet: the end does not wait for them."""
    served = serve(site, interface, "--graceful-timeout=3600")
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as kept_alive,
        socket.create_connection(("127.0.0.1", served.port), timeout=20),
    ):
        kept_alive.sendall(b"GET /ping/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept_alive.recv(4096).startswith(b"HTTP/1.1 200")
        assert served.running.stop() == 0, served.running.log


@pytest.mark.parametrize("interface", BOTH)
def test_of_many_signals_one_is_heeded(site: Project, interface: str) -> None:
    """SIGTERM to a server process time and again, and to the first one: the request that runs is answered, and the end
    is in order. Granian's own handlers would block for ever at the third.
    """
    served = serve(site, interface)
    thread, answers = ask_slowly(served, "last")
    (process,) = served.workers()
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not _is_pending(process.pid, signal.SIGTERM), within=20, what="it has got the signal")
    served.running.send(signal.SIGTERM)
    eventually(served.refuses, within=20, what="it takes no more connections")
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    assert served.running.wait(20) == 0, served.running.log
    assert "kill" not in served.running.log.lower()


def _is_pending(pid: int, number: int) -> bool:
    """Say whether a signal waits for a process to take it (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (pending,) = (int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
    return bool(pending & 1 << (number - 1))


LATE = """
import asyncio, sys, threading, time
from django.urls import include, path

_write = asyncio.SelectorEventLoop._write_to_self
finalizes = threading.Event()

def _write_and_wait(loop):
    _write(loop)
    if sys._getframe(2).f_code.co_name == "shutdown_glue":  # the thread has told the loop of the end
        finalizes.wait()

class Late:
    def __del__(self, event=finalizes, sleep=time.sleep):
        event.set()
        sleep(1)

asyncio.SelectorEventLoop._write_to_self = _write_and_wait
late = Late()  # goes when the interpreter takes itself apart
urlpatterns = [path("", include("tests.project.urls"))]
"""


def test_a_thread_of_granians_that_comes_late_makes_no_noise(site: Project) -> None:
    """The thread that has told the loop of the end wants the interpreter once more, when that is gone: no page of text
    about a panic.
    """
    served = serve(site, "--interface=asgi", settings={"ROOT_URLCONF": "site_urls"}, **with_code(site, site_urls=LATE))
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0
    assert "panicked" not in served.running.log
    assert "Fatal" not in served.running.log


@pytest.mark.parametrize("interface", BOTH)
def test_a_request_that_does_not_end_is_ended(site: Project, interface: str) -> None:
    """After ``graceful_timeout`` seconds the server is gone, whatever its requests do; the exit status is 0."""
    served = serve(site, interface, "--graceful-timeout=1")
    thread, answers = ask_slowly(served, "never")
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0, served.running.log
    thread.join(20)
    assert isinstance(answers[0], OSError)
    eventually(lambda: not site.processes())


@pytest.mark.alone
def test_the_end_is_bounded_while_processes_are_replaced(site: Project) -> None:
    """SIGTERM in the middle of a SIGHUP, and requests that never end: ``graceful_timeout`` and no more for all of it.

    Granian's own replacing would go on: four processes, each 3 s beside its successor and 1 s for its requests.
    """
    served = serve(site, "--workers=4", "--graceful-timeout=1")
    thread, answers = ask_slowly(served, "never")
    old = {process.pid for process in served.workers()}
    served.running.send(signal.SIGHUP)
    eventually(lambda: {process.pid for process in served.workers()} - old, within=60, what="one is being replaced")
    begun = time.monotonic()
    served.running.send(signal.SIGTERM)
    assert served.running.wait(30) == 0, served.running.log
    assert time.monotonic() - begun < 1 + 2
    thread.join(20)
    assert isinstance(answers[0], OSError)
    eventually(lambda: not site.processes(), what="nothing is left")


@pytest.mark.alone
@pytest.mark.parametrize("interface", BOTH)
def test_the_end_is_bounded_whatever_the_code_does(site: Project, interface: str) -> None:
    """A view that computes for ever, on the event loop under ASGI, so that nothing in its process heeds a signal: the
    first process kills it, and the log names it.
    """
    extra = {"ROOT_URLCONF": "site_urls"}
    served = serve(site, interface, "--graceful-timeout=1", settings=extra, **with_code(site, site_urls=FOR_EVER))
    thread, answers = ask(served, "/afor-ever/" if "asgi" in interface else "/for-ever/")
    (computing,) = served.workers()
    eventually((site.path / "computes").exists, within=30)
    begun = time.monotonic()
    served.running.send(signal.SIGTERM)
    assert served.running.wait(30) == 0, served.running.log
    assert time.monotonic() - begun < 1 + 2
    thread.join(20)
    assert isinstance(answers[0], OSError)
    told = f"server process {computing.pid} is killed: it did not end within graceful_timeout, 1 s"
    assert told in served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


def test_a_trial_ends_with_the_server(site: Project) -> None:
    """SIGHUP for code whose import never gets done, then SIGTERM: the process that tries it is gone as well."""
    extra = {"ROOT_URLCONF": "site_urls"}
    served = serve(site, settings=extra, **with_code(site, site_urls=FOR_EVER))
    with_code(site, site_urls="import pathlib, time\npathlib.Path('tried').touch()\ntime.sleep(3600)\n")
    served.running.send(signal.SIGHUP)
    eventually((site.path / "tried").exists, within=60, what="the new code is tried")
    assert served.running.stop() == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


SLOW_TO_NOTE = """
import os, threading, time
from tests.project.settings import *

_waitpid = os.waitpid

def _wait_slowly(*args):
    found = _waitpid(*args)
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.3)
    return found

os.waitpid = _wait_slowly
"""


def test_a_process_that_ends_in_time_is_not_said_to_be_killed(site: Project) -> None:
    """A thread of Granian's may be the one that reaps a process, and be slow to note it, as on a busy machine: that the
    process has ended is seen all the same, by a reload and at the end.
    """
    env = with_code(site, slow_to_note=SLOW_TO_NOTE) | {"DJANGO_SETTINGS_MODULE": "slow_to_note"}
    served = serve(site, "--workers=2", **env)
    old = {process.pid for process in served.workers()}
    served.running.send(signal.SIGHUP)
    eventually(lambda: not old & {process.pid for process in served.workers()}, within=60, what="all are new")
    assert served.running.stop() == 0
    assert "kill" not in served.running.log.lower()


def test_a_second_signal_does_not_wait(site: Project) -> None:
    """The second SIGINT ends it now, though a request still runs and has an hour."""
    served = serve(site, "--graceful-timeout=3600")
    thread, answers = ask_slowly(served, "never")
    served.running.send(signal.SIGINT)
    eventually(served.refuses, within=20, what="the first one has arrived")
    assert served.running.is_running()
    served.running.send(signal.SIGINT)
    assert served.running.wait(20) == 0, served.running.log
    thread.join(20)
    assert isinstance(answers[0], OSError)
    eventually(lambda: not site.processes())


@pytest.mark.parametrize("interface", BOTH)
def test_nothing_outlives_the_first_process(site: Project, interface: str) -> None:
    """SIGKILL of the first process: a request that runs is answered, then everything is gone, the worker included."""
    site.meanwhile = EMBEDDED
    served = serve(site, interface, "--workers=2")
    eventually(lambda: supervisors(site), within=30)
    thread, answers = ask_slowly(served, "last")
    (asked,) = said(site, "asked", "last")
    served.running.kill()
    assert psutil.pid_exists(asked.pid)
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    eventually(lambda: not site.processes(), what="nothing is left")


def test_a_request_does_not_hold_what_the_first_process_left(site: Project) -> None:
    """SIGKILL of the first process while a request hangs: gone after ``graceful_timeout`` all the same."""
    served = serve(site, "--graceful-timeout=1")
    thread, answers = ask_slowly(served, "never")
    served.running.kill()
    eventually(lambda: not site.processes(), what="nothing is left")
    thread.join(20)
    assert isinstance(answers[0], OSError)


@pytest.mark.parametrize("interface", BOTH)
def test_a_process_that_dies_is_replaced(site: Project, interface: str) -> None:
    """SIGKILL of a server process: another one takes its place, and connections wait for it meanwhile."""
    served = serve(site, interface)
    old = served.pid()
    psutil.Process(old).kill()
    eventually(lambda: old not in {process.pid for process in served.workers()}, within=20)
    assert served.pid() != old  # one try: the socket listens all the time
    assert "Unexpected exit from worker-1" in served.running.log
    assert served.running.stop() == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


@pytest.mark.alone  # a second from the cancel to the kill
def test_background_coroutines_are_named_before_the_process_is_killed(site: Project) -> None:
    """A ``graceful_timeout`` that is shorter than ``drain``, as while files are watched: what is not done by then is
    cancelled and named all the same.
    """
    site.meanwhile |= {"CONCURRENT": {"drain": 60}}
    extra = {"ROOT_URLCONF": "tests.project.concurrency_urls"}
    served = serve(site, "--interface=asgi", "--graceful-timeout=4", settings=extra)
    served.get("/background/x/?seconds=60")
    eventually(lambda: said(site, "begin", "x"), within=20)
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0, served.running.log
    assert "background coroutines cancelled, as the server ends: x; not done within" in served.running.log
    assert said(site, "cancelled", "x")
