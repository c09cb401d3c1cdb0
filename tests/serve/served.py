"""A real ``manage.py serve`` of a test's project."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import psutil

from tests.playground import Project, Running, eventually
from tests.ports import free_port
from tests.processes.harness import said

INTERFACES = ("wsgi", "asgi")
BOTH = [f"--interface={name}" for name in INTERFACES]


@dataclass
class Served:
    """A server that answers, or that is about to end."""

    project: Project
    running: Running
    port: int

    def get(self, path: str, timeout: float = 20) -> str:
        """Return the body of a page, whatever its status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:  # a file that Python 3.14 wants closed
                return error.read().decode()

    def status(self, path: str) -> int:
        """Return the status of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def answer(self, path: str) -> str:
        """Return the body of a page, or nothing if the connection was closed first.

        A server process that ends closes those whose request has not arrived.
        """
        try:
            return self.get(path)
        except OSError as error:
            if isinstance(_reason(error), ConnectionResetError | BrokenPipeError):
                return ""
            raise

    def refuses(self) -> bool:
        """Say whether a connection is refused; one that is taken, or has to wait, is not."""
        with socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect(("127.0.0.1", self.port))
            except ConnectionRefusedError:
                return True
            except OSError:  # the queue is full
                pass
        return False

    def pid(self) -> int:
        """Return the server process that answers."""
        return json.loads(self.get("/inside/"))["pid"]

    def workers(self) -> list[psutil.Process]:
        """Return the living server processes, without the first one and its bookkeeping."""
        return [process for process in psutil.Process(self.running.pid).children() if _is_spawned(process)]


def is_refusal(error: OSError) -> bool:
    """Say whether nobody listened."""
    return isinstance(_reason(error), ConnectionRefusedError)


def _reason(error: OSError) -> object:
    return getattr(error, "reason", error)  # urllib wraps what went wrong before the request was sent


def _is_spawned(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # gone meanwhile
        return False


def ask(served: Served, path: str) -> tuple[threading.Thread, list[Any]]:
    """Ask for a page in a thread; in the list will be its body, or the error."""
    answers: list[Any] = []

    def get() -> None:
        try:
            answers.append(served.get(path, timeout=180))
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    return thread, answers


def ask_slowly(served: Served, key: str) -> tuple[threading.Thread, list[Any]]:
    """Ask, in a thread, for a page that takes until the file named ``key`` is there; return once it runs."""
    thread, answers = ask(served, f"/slow/{key}/")
    eventually(lambda: said(served.project, "asked", key), within=30)
    return thread, answers


def start(project: Project, *flags: str, settings: dict[str, Any] | None = None, **env: str) -> Served:
    """Start a server, and do not wait for it."""
    port = free_port()
    given = {"TMPDIR": str(project.path), "MEANWHILE_TEST_EXTRA": json.dumps(settings or {})} | env
    running = project.start("serve", f"127.0.0.1:{port}", *flags, **given)
    return Served(project, running, port)


def serve(project: Project, *flags: str, settings: dict[str, Any] | None = None, **env: str) -> Served:
    """Start a server and wait for its first answer."""
    served = start(project, *flags, settings=settings, **env)

    def answers() -> bool:
        assert served.running.is_running(), served.running.log
        try:
            return bool(served.get("/ping/"))
        except OSError:
            return False

    eventually(answers, within=60, what="it answers")
    return served


def with_code(project: Project, **files: str) -> dict[str, str]:
    """Write modules of the project's own, and return the environment in which they can be imported."""
    for name, text in files.items():
        (project.path / f"{name}.py").write_text(text)
    return {"PYTHONPATH": f"{project.path}{os.pathsep}{project.env['PYTHONPATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
