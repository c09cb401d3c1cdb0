"""LISTEN on PostgreSQL: hears at once what ``wake.announce`` says anywhere.

Made by ``wake.make_listener`` where psycopg 3 is installed. It takes the connection's
parameters from Django and nothing else: the connection is psycopg's own, outside
Django's pool, and never inside a transaction.

Not made where the settings tell of a pooler in transaction mode
(``DISABLE_SERVER_SIDE_CURSORS``): LISTEN is accepted there and nothing is ever heard.
"""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from django.db import connections

from ..conf import real_clock
from ..logs import get_logger
from .postgresql import CHANNEL, KEEP_ALIVE
from .wake import ANYTHING

logger = get_logger("store")

SLICE = 0.1
"""Seconds: how soon the thread notices ``close``. A notification ends a slice at once."""

CHECK_EVERY = 10.0
"""Seconds between two signs of life: a LISTEN does not notice by itself that the server has vanished."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to connect, doubled each time."""


class PostgreSQLListener:
    """A ``wake.Listener`` with a thread of its own, which may hang in a dead network while ``wait`` is punctual.

    ``_heard`` and ``_closed`` are guarded by ``_changed``. The connection belongs to the thread alone, which
    also closes it.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        # Read here: in the thread, ``connections`` would make a wrapper that nobody closes.
        self._parameters: dict[str, Any] = KEEP_ALIVE | connections[alias].get_connection_params()
        self._clock = real_clock()
        self._changed = threading.Condition()
        self._heard: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"meanwhile-listen-{alias}", daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> set[str]:
        """See ``wake.Listener``."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._heard), timeout)
            heard, self._heard = self._heard, set()
            return set() if self._closed else heard

    def close(self) -> None:
        """See ``wake.Listener``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A thread that hangs in connect() is not waited for: it is a daemon, and that has a timeout.
        self._thread.join(timeout=2 * SLICE)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_closed():
            try:
                with psycopg.connect(**self._parameters, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    if pause > FIRST_PAUSE:
                        logger.info("database %r: listening for new work again", self._alias)
                        self._hear(ANYTHING)  # nobody knows what was announced meanwhile
                    pause = FIRST_PAUSE
                    self._listen(connection)
            except psycopg.Error as error:
                if pause == FIRST_PAUSE:  # once for each outage
                    logger.warning("database %r: not listening for new work, polling: %s", self._alias, error)
                self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        """Pass on what is heard, until closed. Raises when the connection is found broken."""
        heard_from_server = self._clock.monotonic()
        while not self._is_closed():
            for notification in connection.notifies(timeout=SLICE, stop_after=1):
                self._hear(notification.payload)
                heard_from_server = self._clock.monotonic()
            if self._clock.monotonic() - heard_from_server > CHECK_EVERY:
                connection.execute("SELECT 1")
                heard_from_server = self._clock.monotonic()

    def _hear(self, name: str) -> None:
        with self._changed:
            self._heard.add(name)
            self._changed.notify_all()

    def _is_closed(self) -> bool:
        with self._changed:
            return self._closed

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
