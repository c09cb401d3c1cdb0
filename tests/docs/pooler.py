"""A pgbouncer in front of the tests' PostgreSQL, configured by the page and by nothing else.

Made by `test_howto_pgbouncer`. What a test changes in the page's file is where things are: ports, the database, the
password. It never runs as root: pgbouncer refuses to.
"""

from __future__ import annotations

import configparser
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests import watchdog
from tests.playground import eventually
from tests.ports import free_port
from tests.servers import Server

PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")  # outside the PATH of ordinary users


def find() -> str | None:
    """Return the path of pgbouncer, or None."""
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))


class Pooler:
    """A pgbouncer, to be started and closed once."""

    def __init__(self, ini: str, server: Server, database: str) -> None:
        self.server, self.database = server, database
        self.port = free_port()
        self.ini = configparser.ConfigParser()
        self.ini.read_string(ini)
        self._directory = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=watchdog.run_directory()))
        self._process: subprocess.Popen[bytes] | None = None

    def settings_dict(self, name: str) -> dict[str, Any]:
        """Return what goes into `DATABASES`, for an entry of [databases]."""
        return self.server.settings_dict(name) | {"PORT": self.port}

    def admin(self, command: str) -> list[dict[str, Any]]:
        """Ask pgbouncer's own console."""
        url = f"postgresql://{self.server.user}@127.0.0.1:{self.port}/pgbouncer"
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(command).fetchall()

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self._directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it lets somebody through."""
        binary = find()
        assert binary, "the tests ask before"
        users = self._directory / "userlist.txt"
        users.write_text(f'"{self.server.user}" "{self.server.password}"\n')
        self._point_at_the_tests(users)
        path = self._directory / "pgbouncer.ini"
        with path.open("w") as file:
            self.ini.write(file)
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for each in (self._directory, users, path):
                os.chown(each, nobody.pw_uid, nobody.pw_gid)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [binary, str(path)],
                cwd="/",
                env=os.environ | watchdog.run_mark(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity,
            )
        eventually(self._answers, what="pgbouncer answers")

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _point_at_the_tests(self, users: Path) -> None:
        for name in self.ini["databases"]:
            kept = [part for part in self.ini["databases"][name].split() if part.startswith("pool_size=")]
            place = [f"host={self.server.host}", f"port={self.server.port}", f"dbname={self.database}"]
            self.ini["databases"][name] = " ".join([*place, *kept])
        self.ini["pgbouncer"].update(
            {
                "listen_port": str(self.port),
                "unix_socket_dir": "",
                "auth_type": "trust",
                "auth_file": str(users),
                "admin_users": self.server.user,
            }
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return bool(self.admin("SHOW VERSION"))
        except psycopg.OperationalError:
            return False
