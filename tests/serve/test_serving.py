"""``manage.py serve`` answers, WSGI and ASGI, as the settings and the command line say."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded.servers import EMBEDDED, supervisors
from tests.playground import Project, eventually
from tests.ports import free_port
from tests.processes.harness import said

from .served import BOTH, serve, start, with_code

pytestmark = pytest.mark.slow

STATIC = {
    "DEBUG": True,
    "STATIC_URL": "/static/",
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.staticfiles",
        "django_meanwhile",
        "tests.project",
    ],
}


@pytest.mark.parametrize("interface", BOTH)
def test_it_serves_the_project(site: Project, interface: str) -> None:
    """Pages are answered by as many processes as were asked for, and never by the first one."""
    served = serve(site, interface, "--workers=2")
    assert served.get("/ping/") == "pong"
    eventually(lambda: len(served.workers()) == 2)
    assert served.pid() in {process.pid for process in served.workers()}
    assert "2 processes" in served.running.log
    assert f"http://127.0.0.1:{served.port}/" in served.running.log
    assert served.running.stop() == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections among sockets")
@pytest.mark.parametrize("interface", BOTH)
def test_connections_that_are_kept_alive_are_spread_over_the_processes(site: Project, interface: str) -> None:
    """On one socket, one process would have them all. Of forty by luck: 1 in 10 to the 11th."""
    served = serve(site, interface, "--workers=2")
    eventually(lambda: len(served.workers()) == 2, within=20)
    with contextlib.ExitStack() as stack:
        kept = [http.client.HTTPConnection("127.0.0.1", served.port, timeout=60) for _ in range(40)]
        answered = set()
        for connection in kept:
            stack.callback(connection.close)
            connection.request("GET", "/inside/")
            answered.add(json.loads(connection.getresponse().read())["pid"])
    assert answered == {process.pid for process in served.workers()}
    served.running.stop()


def test_the_settings_are_the_defaults_of_the_flags(site: Project) -> None:
    """MEANWHILE["SERVER"] says how many processes; a flag says otherwise."""
    site.meanwhile |= {"SERVER": {"workers": 3, "threads": 2}}
    served = serve(site)
    assert "3 processes; 2 threads in each: up to 6 requests at once" in served.running.log
    eventually(lambda: len(served.workers()) == 3)
    served.running.stop()
    served = serve(site, "--workers=1", "--threads=5")
    assert "1 process; 5 threads in each: up to 5 requests at once" in served.running.log
    served.running.stop()


def test_threads_are_requests_at_once(site: Project) -> None:
    """With two threads, two requests run at once and the third one waits for the first that ends."""
    served = serve(site, "--threads=2")
    sockets = []
    for number in range(3):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        connection.sendall(f"GET /slow/{number}/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        sockets.append(connection)
    asked = eventually(lambda: [n for n in range(3) if said(site, "asked", str(n))][1:] and True, within=20)
    assert asked
    first, second = (n for n in range(3) if said(site, "asked", str(n)))
    (third,) = {0, 1, 2} - {first, second}
    assert served.running.is_running()
    assert not said(site, "asked", str(third))
    (site.path / str(first)).touch()
    eventually(lambda: said(site, "asked", str(third)), within=20, what="the third is asked once the first has ended")
    for number in range(3):
        (site.path / str(number)).touch()
    for connection in sockets:
        assert b"at last" in b"".join(iter(lambda connection=connection: connection.recv(4096), b""))
        connection.close()
    assert served.running.stop() == 0


@pytest.mark.parametrize("interface", BOTH)
def test_static_files_are_served_under_debug_only(site: Project, interface: str) -> None:
    """Under DEBUG the project's static files are there, as under runserver; else not, and a line says what to do."""
    (site.path / "files").mkdir()
    (site.path / "files/site.css").write_text("body { color: teal }")
    settings = STATIC | {"STATICFILES_DIRS": [str(site.path / "files")]}
    served = serve(site, interface, settings=settings)
    assert served.get("/static/site.css") == "body { color: teal }"
    assert served.status("/static/none.css") == 404
    assert served.get("/ping/") == "pong"
    assert "static files" not in served.running.log
    served.running.stop()
    served = serve(site, interface, settings=settings | {"DEBUG": False})
    assert served.status("/static/site.css") == 404
    assert served.running.log.count("static files are not served without DEBUG: add whitenoise") == 1
    served.running.stop()


def test_requests_are_logged_as_runserver_logs_them(site: Project) -> None:
    """Under DEBUG each answer is one line of django.server, whatever was asked for; without DEBUG there is none."""
    served = serve(site, "--noreload", settings={"DEBUG": True})
    assert served.status("/no%0Aforged/?q=%1b[31m") == 404
    log = served.running.wait_for(" 404 in ")
    (line,) = [line for line in log.splitlines() if line.startswith("[") and "forged" in line]
    assert '"GET /no\\nforged/?q=' in line
    assert " 404 in " in line
    assert "\x1b" not in log
    served.running.stop()
    served = serve(site)
    served.get("/ping/")
    served.running.stop()
    assert "GET /ping/" not in served.running.log


def test_the_projects_logging_holds(site: Project) -> None:
    """Handlers of LOGGING get what the server says and what it was asked for; disable_existing_loggers included."""
    settings = {
        "LOGGING": {
            "version": 1,
            "disable_existing_loggers": True,
            "formatters": {"ours": {"format": "OURS %(name)s %(message)s"}},
            "handlers": {"ours": {"class": "logging.StreamHandler", "formatter": "ours"}},
            "root": {"handlers": ["ours"], "level": "INFO"},
            "loggers": {"django.server": {"handlers": ["ours"], "level": "INFO", "propagate": False}},
        }
    }
    served = serve(site, "--access-log", "--log-level=info", settings=settings)
    served.get("/ping/")
    served.running.wait_for('OURS django.server "GET /ping/ HTTP/1.1" 200')
    served.running.stop()
    log = served.running.log
    assert "OURS _granian Spawning worker-1" in log
    assert "OURS django_meanwhile.server server process" in log
    assert log.count("Spawning worker-1") == 1


def test_a_unix_socket(site: Project) -> None:
    """``unix:/path`` is served, a file that a killed server left behind is no obstacle, and none is left at the end."""
    path = Path(site.path / "s.sock")
    for _ in range(2):
        running = site.start("serve", f"unix:{path}")
        running.wait_for("Serving at")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(b"GET /ping/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"pong" in b"".join(iter(lambda client=client: client.recv(4096), b""))
        last = running
        if running is site.running[0]:
            running.kill()
            eventually(lambda: not site.processes(), within=20, what="the processes of the killed one are gone")
            assert path.exists()
    assert last.stop() == 0, last.log
    assert not path.exists()


def test_below_a_path(site: Project) -> None:
    """With ``--url-path-prefix`` the site is below it, and knows that."""
    for interface in BOTH:
        served = start(site, interface, "--url-path-prefix=/shop")
        served.running.wait_for("/shop/")
        eventually(lambda served=served: served.get("/shop/ping/") == "pong", within=30)
        served.running.stop()


def test_as_module_and_as_script(site: Project) -> None:
    """With Django's own manage.py, and without a wsgi module anywhere, the project is served as well."""
    manage = site.path / "manage.py"
    manage.write_text(
        "import os, sys\n"
        "def main():\n"
        "    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'alone')\n"
        "    from django.core.management import execute_from_command_line\n"
        "    execute_from_command_line(sys.argv)\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    env = with_code(site, alone="from tests.project.settings import *\n")
    env["DJANGO_SETTINGS_MODULE"] = "alone"
    running = site._start([sys.executable, str(manage), "serve", "127.0.0.1:0"], "manage", env)
    log = running.wait_for("Serving at http://127.0.0.1:")
    port = int(log.partition("Serving at http://127.0.0.1:")[2].partition("/")[0])
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
        client.sendall(b"GET /ping/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"pong" in b"".join(iter(lambda: client.recv(4096), b""))
    assert running.stop() == 0, running.log


@pytest.mark.parametrize("interface", BOTH)
def test_the_worker_comes_along_at_once(site: Project, interface: str) -> None:
    """With EMBEDDED there is one worker for all server processes, before any request, and it ends with them."""
    site.meanwhile = EMBEDDED
    served = start(site, interface, "--workers=2")
    eventually(lambda: supervisors(site), within=30, what="the worker is there")
    eventually(lambda: len(served.workers()) == 2, within=30)
    served.get("/enqueue/pause/?args=%5B%22done%22%5D")
    eventually(lambda: said(site, "end", "done"), within=30)
    assert len(supervisors(site)) == 1
    assert served.running.stop() == 0
    eventually(lambda: not site.processes())


def test_https(site: Project) -> None:
    """With a certificate and its key the site is served by TLS, and Django knows that the request was secure."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl on this machine to make a certificate with")
    key, certificate = site.path / "key.pem", site.path / "site.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    running = site.start("serve", f"127.0.0.1:{port}", f"--tls-certificate={certificate}", f"--tls-key={key}")
    running.wait_for(f"https://127.0.0.1:{port}/")
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET /ping/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"pong" in b"".join(iter(lambda: client.recv(4096), b""))
    assert running.stop() == 0, running.log
