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

import gunicorn.config
import psutil

from tests.playground import Project, Running, eventually
from tests.ports import free_port
from tests.processes.harness import kill

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
# gunicorn's own thread for its control socket logs while the first process forks: a child may be born into its lock.
for _command in COMMANDS.values():
    if "gunicorn" in _command and hasattr(gunicorn.config, "ControlSocketDisable"):
        _command.insert(2, "--no-control-socket")
PROCESSES = {"gunicorn": 5, "gunicorn-threads": 3, "gunicorn-preload": 5}
"""How many processes a server has once it is complete."""

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
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{text}", timeout=60) as answer:
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
            kill(self.processes())
        elif number == signal.SIGINT:
            os.killpg(self.running.pid, number)
        else:
            self.running.send(number)


def serve(project: Project, kind: str, **env: str) -> Server:
    """Start a server of that kind and wait until it answers."""
    port = free_port()
    command = [sys.executable, *(word.format(port=port) for word in COMMANDS[kind])]
    # gunicorn's own warnings are not ours; locks of other tests' projects lie elsewhere.
    running = project._start(command, kind, {"TMPDIR": str(project.path), "PYTHONWARNINGS": "default"} | env)
    server = Server(project, kind, running, port)

    def answers() -> bool:
        assert running.is_running(), running.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers, within=60, what=f"{kind} answers")
    if kind in PROCESSES:  # the first one listens before it has forked the others
        eventually(lambda: len(server.processes()) == PROCESSES[kind], within=60, what=f"all processes of {kind}")
    if kind.startswith("granian"):  # told to stop before a process of its has begun, Granian waits for that for ever
        eventually(lambda: running.log.count("Started worker-") == 2, within=60, what=f"all processes of {kind}")
    return server


def supervisors(project: Project) -> list[psutil.Process]:
    """Return the first process of each living embedded worker.

    A child that it has just forked has its command line, until exec gives it one of its own.
    """
    found = {process.pid: process for process in project.processes() if _boot_of(process) == _BOOTS[0]}
    return [process for process in found.values() if _parent_of(process) not in found]


def workers_tree(project: Project) -> list[psutil.Process]:
    """Return all living processes of embedded workers."""
    return [process for process in project.processes() if _boot_of(process)]


def wait_for_worker(project: Project) -> None:
    """Wait until a worker's children have registered."""
    eventually(
        lambda: len(project.sql("SELECT id FROM meanwhile_worker WHERE dead_at IS NULL")) >= 2,
        within=60,
        what="the embedded worker's children have registered",
    )


def _parent_of(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _boot_of(process: psutil.Process) -> str | None:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return None
    return next((boot for boot in _BOOTS if f"from {boot} import" in command), None)
