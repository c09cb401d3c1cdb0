"""A Django project of one test's own: its database, its directory, its processes.

The fixture ``project`` yields one for each vendor. ``manage()`` runs a command to its end, ``start()`` runs one beside
the test (a worker); whatever still lives when the test ends is killed, and the database dropped. Migrations run once
per session and vendor, in a template that is then copied.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import django_meanwhile
from tests import watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

    from tests.servers import Server

    Unblocked = Callable[[], contextlib.AbstractContextManager[None]]  # lets tests reach databases meanwhile

T = TypeVar("T")
PROJECT_MARK = "MEANWHILE_TEST_PROJECT"
_ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = Path(django_meanwhile.__path__[0]).resolve().parent  # wherever the tested package was imported from


def eventually(condition: Callable[[], T], *, within: float = 30, what: str = "") -> T:
    """Ask until the answer is true, and return it; AssertionError after ``within`` seconds.

    For what happens in other processes only; within this one, wait on events. ``within`` is patience with a busy
    machine, not a bound that is tested: such a bound is asserted, in a test that is marked ``alone``.
    """
    deadline = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > deadline:
            message = f"not within {within} s: {what or condition}; the last answer was {answer!r}"
            raise AssertionError(message)
        time.sleep(0.01)
    return answer


class Running:
    """A process that a test started, in a session (process group) of its own, with its output in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log_path = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                env=env,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process started, not its children."""
        return self.popen.pid

    @property
    def log(self) -> str:
        """What it and its children printed so far, on both streams."""
        return self.log_path.read_text(errors="replace")

    def is_running(self) -> bool:
        """Say whether it has not ended yet."""
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def wait(self, within: float = 60) -> int:
        """Wait for its end; return the exit status (negative: the signal that ended it)."""
        return self.popen.wait(within)

    def stop(self, within: float = 60) -> int:
        """Ask it to end (SIGTERM) and wait for that."""
        self.popen.terminate()
        return self.wait(within)

    def kill(self) -> None:
        """SIGKILL this process alone, and reap it."""
        self.popen.kill()
        self.popen.wait()

    def wait_for(self, text: str, within: float = 60) -> str:
        """Wait until its output contains ``text``; return the output. Fails at once if it ends before."""

        def seen() -> bool:
            ended = not self.is_running()  # asked before reading, or its last line could be missed
            if text in self.log:
                return True
            assert not ended, f"ended with status {self.popen.returncode} before it said {text!r}:\n{self.log}"
            return False

        try:
            eventually(seen, within=within, what=f"{text!r} in {self.log_path.name}")
        except AssertionError as error:
            message = f"{error}\n{self.log}"
            raise AssertionError(message) from None
        return self.log


class Project:
    """One project. Not thread-safe, apart from ``sql()`` and ``connect()``."""

    def __init__(self, vendor: str, path: Path, database: dict[str, Any], unblocked: Unblocked) -> None:
        self._unblocked = unblocked
        self.vendor = vendor  # "sqlite" or "postgresql"
        self.path = path  # a directory of its own: logs, the SQLite file, whatever tasks write
        self.database = database  # DATABASES["default"]; change it before the first process starts
        self.meanwhile: dict[str, Any] = {}  # the setting MEANWHILE
        self.id = uuid.uuid4().hex
        self.running: list[Running] = []

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes; warnings are errors there too."""
        return {
            **os.environ,
            **watchdog.run_mark(),
            PROJECT_MARK: self.id,
            "DJANGO_SETTINGS_MODULE": "tests.project.settings",
            "MEANWHILE_TEST_DB": json.dumps(self.database),
            "MEANWHILE_TEST_SETTINGS": json.dumps(self.meanwhile),
            "MEANWHILE_TEST_PATH": str(self.path),
            "PYTHONPATH": os.pathsep.join(dict.fromkeys([str(_ROOT), str(_PACKAGE)])),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
        }

    def manage(self, *args: str, check: bool = True, within: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end; its failure fails the test unless ``check`` is off."""
        return self._run([sys.executable, "-m", "django", *args], check=check, within=within)

    def python(self, code: str, *, check: bool = True, within: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a script in the project, with Django set up."""
        setup = "import django; django.setup()\n"
        return self._run([sys.executable, "-c", setup + code], check=check, within=within)

    def start(self, *args: str, **env: str) -> Running:
        """Start a management command and let it run; more environment by keyword."""
        return self._start([sys.executable, "-m", "django", *args], args[0], env)

    def start_python(self, code: str, **env: str) -> Running:
        """Start a script, with Django set up, and let it run."""
        setup = "import django; django.setup()\n"
        return self._start([sys.executable, "-c", setup + code], "python", env)

    def migrate(self) -> None:
        """Run the migrations for real; the fixture ``project`` has them already."""
        self.manage("migrate", "--run-syncdb", "--verbosity=0")

    def processes(self) -> list[psutil.Process]:
        """Return all its living processes, children and orphans included."""
        return watchdog.marked_processes(PROJECT_MARK, self.id)

    def kill_everything(self) -> None:
        """SIGKILL all of ``processes()`` and wait until none is left."""

        def none_left() -> bool:
            for process in self.processes():
                with contextlib.suppress(Exception):
                    process.send_signal(signal.SIGKILL)
            return not self.processes()

        for running in self.running:
            running.kill()
        eventually(none_left, what="the project's processes are gone")

    def connect(self) -> Any:
        """Open a plain connection of the vendor's driver, in autocommit; the caller closes it."""
        if self.vendor == "sqlite":
            return sqlite3.connect(self.database["NAME"], timeout=10, isolation_level=None)
        import psycopg

        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
        return psycopg.connect(**{ours: self.database[theirs] for ours, theirs in names.items()}, autocommit=True)

    def sql(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement (placeholders: %s) on a connection of its own, and return its rows."""
        if self.vendor == "sqlite":
            statement = statement.replace("%s", "?")
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def orm(self, alias: str = "project") -> Iterator[str]:
        """Make its database known to Django in this process, under the alias that is yielded.

        For tests without the mark ``django_db`` and the fixture ``database``: these forbid every alias but their own.
        """
        from django.db import connections

        configured = connections.configure_settings({"default": {}, alias: dict(self.database)})
        connections.settings[alias] = configured[alias]
        try:
            with self._unblocked():
                yield alias
        finally:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]

    def _run(self, command: list[str], *, check: bool, within: float) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            env=self.env,
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check and done.returncode:
            message = f"{command[1:]} ended with status {done.returncode}\n{done.stdout}{done.stderr}"
            raise AssertionError(message)
        return done

    def _start(self, command: list[str], name: str, env: dict[str, str]) -> Running:
        log = self.path / f"{len(self.running) + 1}-{name}.log"
        running = Running(command, self.env | env, log)
        self.running.append(running)
        return running


class Playground:
    """Makes projects, one after the other; session-wide. It owns the templates and drops what it created."""

    def __init__(self, server: Server | None, unblocked: Unblocked) -> None:
        self._server = server
        self._unblocked = unblocked
        self._templates: dict[str, str] = {}  # vendor: the migrated SQLite file, or the migrated database's name

    @contextlib.contextmanager
    def project(self, vendor: str, path: Path, *, migrated: bool) -> Iterator[Project]:
        """Yield a project; on the way out kill its processes, show their last words, and drop the database."""
        template = self._template(vendor) if migrated else None
        with self._database(vendor, path, template) as database:
            project = Project(vendor, path, database, self._unblocked)
            try:
                yield project
            finally:
                project.kill_everything()
                for running in project.running:  # pytest shows this for a failed test only
                    sys.stdout.write(f"--- {running.log_path.name} ---\n{running.log[-6000:]}\n")

    def close(self) -> None:
        """Drop the templates."""
        if self._server and (name := self._templates.get("postgresql")):
            self._server.drop_database(name)
        self._templates.clear()

    def _template(self, vendor: str) -> str:
        if vendor not in self._templates:
            path = watchdog.run_directory() / f"template-{vendor}"
            path.mkdir(exist_ok=True)
            database = self._create(vendor, path, None)
            Project(vendor, path, database, self._unblocked).migrate()
            self._templates[vendor] = database["NAME"]
        return self._templates[vendor]

    @contextlib.contextmanager
    def _database(self, vendor: str, path: Path, template: str | None) -> Iterator[dict[str, Any]]:
        database = self._create(vendor, path, template)
        name = database["NAME"]  # a test may change the dictionary
        try:
            yield database
        finally:
            if vendor == "postgresql":
                assert self._server is not None
                self._server.drop_database(name)

    def _create(self, vendor: str, path: Path, template: str | None) -> dict[str, Any]:
        if vendor == "sqlite":
            name = path / "db.sqlite3"
            if template:
                shutil.copyfile(template, name)
            return {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(name),
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5},
            }
        assert self._server is not None, "conftest skips these tests when there is no server"
        return self._server.settings_dict(self._server.create_database(template=template))
