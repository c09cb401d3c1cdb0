"""The site's server: `runserver` and the worker that it brings along, in a directory and on a port of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeVar

EXAMPLE = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Ask until the answer is true, and return it. For what happens in other processes."""
    end = time.monotonic() + patience
    while not (answer := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience:g} s in vain: {what}")
        time.sleep(0.02)
    return answer


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """One server after the other, on one port and one database."""

    def __init__(self, directory: Path, port: int | None = None, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "log.txt"
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "EXAMPLE_DIRECTORY": str(directory),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def manage(self, *args: str) -> str:
        """Run a management command to its end; return what it printed."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(command, cwd=EXAMPLE, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"manage.py {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> float:
        """Start a server and wait until it answers; return the seconds that took."""
        begun = time.monotonic()
        command = [sys.executable, "manage.py", "runserver", "--noreload", "--skip-checks", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            process = self._process = subprocess.Popen(
                command, cwd=EXAMPLE, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}:\n{self.log.read_text()}")
            return self._answers()

        until(answers, "the server answers")
        return time.monotonic() - begun

    def wait(self) -> int:
        """Wait until the server ends by itself, or somebody presses Ctrl-C; return its status."""
        assert self._process is not None
        return self._process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/ping/", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the server, and wait until its worker is gone as well."""
        if self._process is None:
            return
        left = self.tree()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(PATIENCE)
            until(lambda: not any(map(lives, left)), "the worker is gone")
        finally:
            _kill(pid for pid in left if lives(pid))
            self._process = None

    def tree(self) -> list[int]:
        """Return the processes of the server and of its worker, parents first."""
        if self._process is None:
            return []
        found, parents = [self._process.pid], _parents()
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def kill(self) -> list[int]:
        """SIGKILL the server alone; return what was its tree."""
        left = self.tree()
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return left

    def kill_all(self) -> list[int]:
        """SIGKILL the server, its worker and the worker's children."""
        left = self.tree()
        _kill(left)
        assert self._process is not None
        self._process.wait()
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return not Path("/proc/self").exists()  # no /proc here: the signal was all there is to ask


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _parents() -> dict[int, int]:
    """Return the parent of every process: from /proc, or from ps where there is none."""
    if Path("/proc/self/stat").exists():
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # gone meanwhile
        return found
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid): int(parent) for pid, parent in (line.split() for line in listing.splitlines())}
