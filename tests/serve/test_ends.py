"""However ``manage.py serve`` ends: no request that it has taken is lost, and nothing is left behind."""

import os
import signal

import psutil
import pytest

from tests.embedded.servers import EMBEDDED, supervisors
from tests.playground import Project, eventually
from tests.processes.harness import said

from .served import BOTH, Served, ask_slowly, serve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda value: value.name)
@pytest.mark.parametrize("interface", BOTH)
def test_a_request_that_runs_is_answered(site: Project, interface: str, number: int) -> None:
    """SIGTERM while a request runs: no new connection is taken, the answer is sent, the exit status is 0."""
    served = serve(site, interface, "--workers=2")
    thread, answers = ask_slowly(served, "last")
    served.running.send(number)
    eventually(lambda: _refuses(served), within=20, what="it takes no more connections")
    assert served.running.is_running()
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    assert served.running.wait(20) == 0, served.running.log
    eventually(lambda: not site.processes(), within=5, what="nothing is left")
    assert "Unexpected exit" not in served.running.log


def _refuses(served: Served) -> bool:
    try:
        served.get("/ping/", timeout=1)
    except OSError:
        return True
    return False


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
def test_a_request_that_does_not_end_is_ended(site: Project, interface: str) -> None:
    """After ``graceful_timeout`` seconds the server is gone, whatever its requests do; the exit status is 0."""
    served = serve(site, interface, "--graceful-timeout=1")
    thread, answers = ask_slowly(served, "never")
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0, served.running.log
    thread.join(20)
    assert isinstance(answers[0], OSError)
    eventually(lambda: not site.processes(), within=5)


def test_a_second_signal_does_not_wait(site: Project) -> None:
    """The second SIGINT ends it now, though a request still runs and has an hour."""
    served = serve(site, "--graceful-timeout=3600")
    thread, answers = ask_slowly(served, "never")
    served.running.send(signal.SIGINT)
    eventually(lambda: _refuses(served), within=20, what="the first one has arrived")
    assert served.running.is_running()
    served.running.send(signal.SIGINT)
    assert served.running.wait(20) == 0, served.running.log
    thread.join(20)
    assert isinstance(answers[0], OSError)
    eventually(lambda: not site.processes(), within=5)


@pytest.mark.parametrize("interface", BOTH)
def test_nothing_outlives_the_first_process(site: Project, interface: str) -> None:
    """SIGKILL of the first process: a request that runs is answered, then everything is gone, the worker included."""
    site.meanwhile = EMBEDDED
    served = serve(site, interface, "--workers=2")
    eventually(lambda: supervisors(site), within=30)
    thread, answers = ask_slowly(served, "last")
    served.running.kill()
    assert len(site.processes()) > 1
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    eventually(lambda: not site.processes(), within=10, what="nothing is left")


def test_a_request_does_not_hold_what_the_first_process_left(site: Project) -> None:
    """SIGKILL of the first process while a request hangs: gone after ``graceful_timeout`` all the same."""
    served = serve(site, "--graceful-timeout=1")
    thread, answers = ask_slowly(served, "never")
    served.running.kill()
    eventually(lambda: not site.processes(), within=10, what="nothing is left")
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
    eventually(lambda: not site.processes(), within=5, what="nothing is left")


def test_background_coroutines_are_named_before_the_process_is_killed(site: Project) -> None:
    """A ``graceful_timeout`` that is shorter than ``drain``, as while files are watched: what is not done by then is
    cancelled and named all the same.
    """
    site.meanwhile |= {"CONCURRENT": {"drain": 60}}
    extra = {"ROOT_URLCONF": "tests.project.concurrency_urls"}
    served = serve(site, "--interface=asgi", "--graceful-timeout=2", settings=extra)
    served.get("/background/x/?seconds=60")
    eventually(lambda: said(site, "begin", "x"), within=20)
    served.running.send(signal.SIGTERM)
    assert served.running.wait(20) == 0, served.running.log
    assert "background coroutines cancelled, as the server ends: x; not done within" in served.running.log
    assert said(site, "cancelled", "x")
