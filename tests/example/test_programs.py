"""The programs behind `make demo` and `make site`: what they say at the end, and that nothing of them is left."""

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from example.tour.server import EXAMPLE, until
from tests import watchdog
from tests.example.site import _PACKAGE
from tests.ports import free_port

MARK = "MEANWHILE_TEST_PROGRAM"
OUTCOMES = {
    "lambda told, server: told.hold('water is wet', True, 'wet')": (0, "All of it held"),
    "lambda told, server: told.hold('water is dry', False, 'wet')": (1, "1 of the above did not hold: water is dry"),
    "lambda told, server: server.manage('no-such-command')": (1, "did not hold: the tour went on to its end"),
    "lambda told, server: (_ for _ in ()).throw(TimeoutError('waited in vain'))": (1, "waited in vain"),
}


def environment(directory, **more: str) -> dict[str, str]:
    """Return what the programs are started with."""
    return {
        **os.environ,
        **watchdog.run_mark(),
        "EXAMPLE_DIRECTORY": str(directory),
        "PYTHONPATH": str(_PACKAGE),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(directory),
        **more,
    }


@pytest.mark.parametrize("take", OUTCOMES)
def test_the_demo_fails_if_anything_did_not_hold(tmp_path, take: str) -> None:
    """Exit status 0 if all held; 1, and the name of what did not, if anything did not or the tour broke off."""
    code = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import demo; demo.take = {take}; sys.exit(demo.main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    status, words = OUTCOMES[take]
    assert (done.returncode, words in done.stdout) == (status, True), done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_site_runs_until_it_is_ended(tmp_path, number: signal.Signals) -> None:
    """`make site` says where it is, answers there, and leaves no process behind, whether by Ctrl-C or by SIGTERM."""
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "serve.py"), str(port)],
        env=environment(tmp_path, **{MARK: str(port)}),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    try:
        assert f"http://127.0.0.1:{port}/" in program.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200
        if number == signal.SIGINT:
            os.killpg(program.pid, number)  # as a terminal does
        else:
            program.send_signal(number)
        assert program.wait(60) == (0 if number == signal.SIGINT else 143)
        until(lambda: not watchdog.marked_processes(MARK, str(port)), "nothing of it is left")
    finally:
        program.kill()
        program.stdout.close()


def test_a_port_that_is_none_is_refused(tmp_path) -> None:
    """`make site` with something else than a port says what a port is, and starts nothing."""
    command = [sys.executable, str(EXAMPLE / "serve.py"), "eighty"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'eighty' is no port" in done.stderr
