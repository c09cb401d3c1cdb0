"""``PRAGMA data_version`` on SQLite: notices every commit to the file, whoever makes it.

Made by ``wake.make_listener`` for a database in a file. SQLite tells nobody of anything,
but a question costs a few microseconds: the number changes when another connection has
committed. It never writes, and never creates a file.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from django.db import connections

from ..conf import real_clock
from ..logs import get_logger
from .wake import ANYTHING

logger = get_logger("store")

ASK_EVERY = 0.02
"""Seconds between two questions."""

CHECK_EVERY = 1.0
"""Seconds between two looks at the path: after a restore, the open file may not be the database any more."""


class SQLiteListener:
    """A ``wake.Listener`` that asks in the waiting thread.

    ``_using`` guards the connection and all that is known of it: ``wait`` holds it, ``close`` waits for it.
    """

    def __init__(self, alias: str) -> None:
        parameters = connections[alias].get_connection_params()
        self._alias = alias
        self._path = str(parameters["database"])
        self._clock = real_clock()
        self._closed = threading.Event()
        self._using = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._file: tuple[int, int] | None = None
        self._check_at = 0.0
        self._deaf = False

    def wait(self, timeout: float) -> set[str]:
        """See ``wake.Listener``."""
        until = self._clock.monotonic() + timeout
        with self._using:
            while not self._closed.is_set():
                if self._has_changed():
                    return {ANYTHING}
                left = until - self._clock.monotonic()
                if left <= 0:
                    break
                self._closed.wait(min(ASK_EVERY, left))
        return set()

    def close(self) -> None:
        """See ``wake.Listener``."""
        self._closed.set()
        with self._using:
            self._disconnect()

    def _has_changed(self) -> bool:
        """Ask; connect first if need be. A broken connection counts as silence."""
        try:
            if self._clock.monotonic() >= self._check_at:
                self._check_at = self._clock.monotonic() + CHECK_EVERY
                self._look_at_file()
            if self._connection is None:
                return False
            before, self._version = self._version, self._ask(self._connection)
        except (sqlite3.Error, OSError) as error:
            if not self._deaf:  # once for each outage
                logger.warning("database %r: not watching for new work, polling: %s", self._alias, error)
            self._deaf = True
            self._disconnect()
            return False
        return self._version != before

    def _look_at_file(self) -> None:
        """Connect to the file that is at the path now, if that is another one than before."""
        name = self._path.removeprefix("file:").partition("?")[0] if self._path.startswith("file:") else self._path
        status = Path(name).stat()
        if self._connection is not None and self._file == (status.st_dev, status.st_ino):
            return
        self._disconnect()
        self._file = (status.st_dev, status.st_ino)
        # As Django does: a NAME may be a URI. Used by one thread at a time, which _using sees to.
        self._connection = sqlite3.connect(
            self._path, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._version = self._ask(self._connection)
        if self._deaf:
            logger.info("database %r: watching for new work again", self._alias)
        self._deaf = False

    @staticmethod
    def _ask(connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
