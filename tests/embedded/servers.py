"""A real web server of a test's project, and the worker that it brought along."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.playground import Project, Running, eventually

EMBEDDED = {"EMBEDDED": True, "WORKER": {"threads": 2, "coroutines": 2, "processes": 1}}

_WSGI, _ASGI = "tests.project.wsgi:application", "tests.project.asgi:application"
COMMANDS = {
    "runserver": ["-m", "django", "runserver", "127.0.0.1:{port}"],
    "runserver-noreload": ["-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"],
    "gunicorn": ["-m", "gunicorn", "--workers=4", "--bind=127.0.0.1:{port}", _WSGI],
    "gunicorn-threads": ["-m", "gunicorn", "--workers=2", "--threads=4", "--bind=127.0.0.1:{port}", _WSGI],
    "gunicorn-gevent": ["-m", "gunicorn", "--worker-class=gevent", "--bind=127.0.0.1:{port}", _WSGI],
    "gunicorn-preload": ["-m", "gunicorn", "--preload", "--workers=4", "--bind=127.0.0.1:{port}", _WSGI],
    "uvicorn": ["-m", "uvicorn", "--port={port}", _ASGI],
    "uvicorn-workers": ["-m", "uvicorn", "--workers=2", "--port={port}", _ASGI],
    "granian": ["-m", "granian", "--interface=asgi", "--workers=2", "--port={port}", _ASGI],
    "serve-wsgi": ["-m", "django", "serve", "--interface=wsgi", "--workers=2", "127.0.0.1:{port}"],
    "serve-asgi": ["-m", "django", "serve", "--interface=asgi", "--workers=2", "127.0.0.1:{port}"],
    "serve-reload": ["-m", "django", "serve", "--reload", "127.0.0.1:{port}"],
    "granian-wsgi": ["-m", "granian", "--interface=wsgi", "--workers=2", "--port={port}", _WSGI],
}
_BOOTS = ("django_meanwhile.embedded.boot", "django_meanwhile.worker.boot")


@dataclass
class Server:
    """A server that answers. ``running`` is its first process."""

    project: Project
    kind: str
    running: Running
    port: int
    pids: list[int] = field(default_factory=list)

    def get(self, path: str, **query: Any) -> str:
        """Return the body of one page; the query's values are sent as JSON."""
        text = "&".join(f"{name}={urllib.request.quote(json.dumps(value))}" for name, value in query.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{text}", timeout=10) as answer:
            return answer.read().decode()

    def enqueue(self, task: str, *args: Any) -> str:
        """Enqueue in a request; return the job's id."""
        return self.get(f"/enqueue/{task}/", args=args)

    def processes(self) -> list[psutil.Process]:
        """Return the server's living processes, without the worker's."""
        return [process for process in self.project.processes() if not _boot_of(process)]

    def end(self, number: int) -> None:
        """SIGINT goes to its group, as from a terminal; SIGKILL to all of its processes; others to the first one."""
        if number == signal.SIGKILL:
            for process in self.processes():
                process.kill()
        elif number == signal.SIGINT:
            os.killpg(self.running.pid, number)
        else:
            self.running.send(number)


def serve(project: Project, kind: str, **env: str) -> Server:
    """Start a server of that kind and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(word.format(port=port) for word in COMMANDS[kind])]
    # gunicorn's own warnings are not ours; locks of other tests' projects lie elsewhere.
    running = project._start(command, kind, {"TMPDIR": str(project.path), "PYTHONWARNINGS": "default"} | env)
    server = Server(project, kind, running, port)

    def answers() -> bool:
        assert running.is_running(), running.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers, within=30, what=f"{kind} answers")
    return server


def supervisors(project: Project) -> list[psutil.Process]:
    """Return the first process of each living embedded worker."""
    return [process for process in project.processes() if _boot_of(process) == _BOOTS[0]]


def workers_tree(project: Project) -> list[psutil.Process]:
    """Return all living processes of embedded workers."""
    return [process for process in project.processes() if _boot_of(process)]


def wait_for_worker(project: Project) -> None:
    """Wait until a worker's children have registered."""
    eventually(
        lambda: len(project.sql("SELECT id FROM meanwhile_worker WHERE dead_at IS NULL")) >= 2,
        within=30,
        what="the embedded worker's children have registered",
    )


def _boot_of(process: psutil.Process) -> str | None:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return None
    return next((boot for boot in _BOOTS if f"from {boot} import" in command), None)
