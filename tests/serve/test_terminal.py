"""``manage.py serve`` on a terminal: ``breakpoint()`` can be answered, and Ctrl-C ends it."""

import os
import pty
import subprocess
import sys
import threading

import pytest

from tests.playground import Project, eventually
from tests.ports import free_port

from .served import Served, with_code

pytestmark = pytest.mark.slow

URLS = """
from django.http import HttpResponse
from django.urls import path
def stop(request):
    answer = "nobody answered"
    breakpoint()
    return HttpResponse(answer)
urlpatterns = [path("stop/", stop)]
"""


def test_breakpoint_has_the_terminal(site: Project) -> None:
    """While files are watched, a debugger in a view reads from the server's terminal, as under runserver."""
    port = free_port()
    extra = {"MEANWHILE_TEST_EXTRA": '{"ROOT_URLCONF": "site_urls"}'}
    env = site.env | with_code(site, site_urls=URLS) | extra
    master, slave = pty.openpty()
    server = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "django", "serve", "--reload", f"127.0.0.1:{port}"],
        env=env,
        cwd=site.path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown, answers = bytearray(), []

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(master, 4096))
            except OSError:  # the terminal's other side is closed
                return

    reading = threading.Thread(target=read)
    reading.start()
    try:
        eventually(lambda: b"Serving at" in shown, within=60)
        served = Served(site, None, port)  # type: ignore[arg-type] - what is asked of it here needs no process
        asking = threading.Thread(target=lambda: answers.append(served.get("/stop/", timeout=60)))
        asking.start()
        eventually(lambda: b"(Pdb)" in shown, within=60, what="the debugger asks")
        os.write(master, b"answer = 'somebody did'\n")
        os.write(master, b"continue\n")
        asking.join(30)
        assert answers == ["somebody did"]
        os.write(master, b"\x03")  # Ctrl-C
        assert server.wait(20) == 0
        eventually(lambda: not site.processes())
    finally:
        site.kill_everything()
        server.wait()
        reading.join(10)
        os.close(master)
