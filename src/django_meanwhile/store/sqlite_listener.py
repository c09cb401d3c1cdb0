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

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Without WAL, a writer keeps readers out for a moment. That is an answer for later, not a broken connection."""


class SQLiteListener:
    """A ``wake.Listener`` that asks in the waiting thread.

    ``_using`` guards the connection and all that is known of it: ``wait`` holds it, ``close`` waits for it.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._path = str(connections[alias].get_connection_params()["database"])
        self._clock = real_clock()
        self._closed = threading.Event()
        self._using = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # of the connection: device and inode
        self._version: int | None = None  # the connection's last answer
        self._check_at = 0.0
        self._lost = False  # since then, commits may have been missed

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
        """Ask; connect first if need be. A broken connection counts as silence until there is one again."""
        try:
            if self._clock.monotonic() >= self._check_at:
                self._check_at = self._clock.monotonic() + CHECK_EVERY
                self._connect()
            if self._connection is None:
                return False
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) not in _BUSY:
                self._lose(error)
            return False
        before, self._version = self._version, version
        if self._lost:
            self._lost = False
            logger.info("database %r: watching for new work again", self._alias)
            return True
        return before is not None and before != version

    def _connect(self) -> None:
        """Connect to the file that is at the path now, unless that is the one we have."""
        path = self._path.removeprefix("file:").partition("?")[0] if self._path.startswith("file:") else self._path
        status = Path(path).stat()
        file = (status.st_dev, status.st_ino)
        if self._connection is not None and self._file == file:
            return
        self._lost = self._lost or self._connection is not None
        self._disconnect()
        # As Django does: a NAME may be a URI. Only one thread at a time uses it: _using sees to that.
        self._connection = sqlite3.connect(
            self._path, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._file = file

    def _lose(self, error: Exception) -> None:
        if not self._lost:  # said once for each outage
            logger.warning("database %r: not watching for new work, polling: %s", self._alias, error)
        self._lost = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = self._version = None
