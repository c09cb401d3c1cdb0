"""One database, empty and warm, and the workers on it.

Made by ``measure``, which runs in a project of its own with Django set up; every measure gets the same one. The raw
connection is also what looks into the table: what is measured does not look at itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connections

from benchmarks.raw import Raw, RawPostgreSQL, RawSQLite
from django_meanwhile.store import get_store
from tests.playground import Running, eventually

ALIAS = "default"
PATIENCE = 300
"""Seconds that a worker gets for what it was given."""


class Place:
    """See the module."""

    def __init__(self) -> None:
        database = connections[ALIAS].settings_dict
        self.path = Path(os.environ["MEANWHILE_TEST_PATH"])
        self.vendor = connections[ALIAS].vendor
        self.store = get_store(ALIAS)
        self.store.prepare()
        self.raw: Raw
        if self.vendor == "sqlite":
            self.raw = RawSQLite(str(database["NAME"]), database["OPTIONS"].get("init_command", ""))
        else:
            import psycopg

            names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
            given: dict[str, Any] = {ours: database[theirs] for ours, theirs in names.items()}
            self.raw = RawPostgreSQL(psycopg.connect(**given, autocommit=True))

    def close(self) -> None:
        """Close both connections."""
        self.raw.close()
        connections[ALIAS].close()

    def describe(self) -> str:
        """Say what runs here, and how safely it commits."""
        if self.vendor == "sqlite":
            (version,), (journal,) = self._one("SELECT sqlite_version()"), self._one("PRAGMA journal_mode")
            synchronous = ("OFF", "NORMAL", "FULL", "EXTRA")[self._one("PRAGMA synchronous")[0]]
            return f"SQLite {version}, {journal.upper()}, synchronous {synchronous} (workers: NORMAL)"
        (version,), (fsync,) = self._one("SHOW server_version"), self._one("SHOW fsync")
        (synchronous,) = self._one("SHOW synchronous_commit")
        return f"PostgreSQL {version.split()[0]}, fsync {fsync}, synchronous_commit {synchronous}"

    def clear(self) -> None:
        """Forget all jobs, and what the database would have to tidy up after them."""
        if self.vendor == "sqlite":
            self.raw.execute("DELETE FROM meanwhile_job")
            self.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            self.raw.execute("TRUNCATE meanwhile_job")

    # --- workers ------------------------------------------------------------------------

    @contextmanager
    def worker(self, **slots: int) -> Iterator[Running]:
        """Run a worker with these slots and no others, ready and idle; stop it with the block."""
        flags = [f"--{name}={slots.get(name, 0)}" for name in ("threads", "coroutines", "processes")]
        command = [sys.executable, "-m", "django", "meanwhile", "worker", *flags]
        running = Running(command, dict(os.environ), self.path / "worker.log")
        try:
            running.wait_for("is ready")
            yield running
            running.stop()
        finally:
            running.kill()

    def wait_until_done(self) -> None:
        """Return once no job is waiting or running; ten looks a second, at two partial indexes."""
        live = "SELECT EXISTS (SELECT 1 FROM meanwhile_job WHERE state = {})"
        looks = [live.format(state) for state in (2, 3)]

        def done() -> bool:
            time.sleep(0.1)
            return not any(self._one(look)[0] for look in looks)

        eventually(done, within=PATIENCE, what="every job has ended")

    def rate(self) -> float:
        """Return successes a second, from the first start to the last finish, as the database recorded them."""
        seconds = {
            "sqlite": "(julianday(max(finished_at)) - julianday(min(started_at))) * 86400.0",
            "postgresql": "extract(epoch FROM max(finished_at) - min(started_at))::float8",
        }[self.vendor]
        states = self.raw.execute("SELECT state, count(*) FROM meanwhile_job GROUP BY state")
        assert [state for state, _ in states] == [4], f"not every job succeeded: {states}"
        return states[0][1] / self._one(f"SELECT {seconds} FROM meanwhile_job")[0]

    def _one(self, statement: str) -> Any:
        return self.raw.execute(statement)[0]
