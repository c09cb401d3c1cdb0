"""Granian's log records in Python's logging: the project's ``LOGGING`` decides, as for all others.

``_granian`` is what the server says, ``django.server`` what it was asked for, as under runserver. Called by ``main``
and in each server process.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..logs import LineFormatter, escape

SERVER, ACCESS, REQUESTS = "_granian", "granian.access", "django.server"

ACCESS_FORMAT = "%(method)s %(path)s %(query_string)s %(protocol)s %(status)d %(dt_ms)s"
"""Names what Granian must tell with each answer; ``_Requests`` writes the line."""

CONFIG: dict[str, Any] = {"version": 1, "incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}
"""For Granian, which would replace the project's handlers by its own: change nothing but its own level."""

_BESIDE_THE_POINT = (
    "Configuration allows spawning",  # threads that wait for a database are more than cores
    "Configured number of",
    "Workers respawn is configured, but",  # about sockets that are not shared
)
_SERVER_ERROR, _CLIENT_ERROR = 500, 400


def connect(level: str, is_ending: Callable[[], bool] = lambda: False) -> None:
    """Let Granian's records reach the project's handlers, or stderr if there are none. For each process, once.

    ``is_ending``: the end of a process is no error any more.
    """
    server, access = logging.getLogger(SERVER), logging.getLogger(ACCESS)
    for logger in (server, access):
        logger.disabled = False  # LOGGING disables all that exist before it, unless it says otherwise
    if server.level == logging.NOTSET:
        server.setLevel(level_of(level))
    server.addFilter(_Server(is_ending))
    if not server.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter())
        server.addHandler(handler)
    access.propagate = False
    access.setLevel(logging.INFO)
    access.addHandler(_Requests())


def level_of(name: str) -> int:
    """Return the number of a level of the settings."""
    return logging.getLevelNamesMapping()[name.upper()]


class _Server(logging.Filter):
    """Drops advice that does not hold here, and what is no news once the server ends."""

    def __init__(self, is_ending: Callable[[], bool]) -> None:
        super().__init__()
        self._is_ending = is_ending

    def filter(self, record: logging.LogRecord) -> bool:
        """See the class."""
        text = record.getMessage()
        if text.startswith("Unexpected exit") and self._is_ending():
            return False
        return not text.startswith(_BESIDE_THE_POINT)


class _Requests(logging.Handler):
    """Writes a line for each answer to Django's logger for that, with what its formatter colours by."""

    def emit(self, record: logging.LogRecord) -> None:
        """See the class. What a client sent cannot leave its line."""
        told = record.args
        if not isinstance(told, Mapping):
            return
        status = int(str(told["status"]))
        level = (
            logging.ERROR if status >= _SERVER_ERROR else logging.WARNING if status >= _CLIENT_ERROR else logging.INFO
        )
        query = f"?{told['query_string']}" if told["query_string"] else ""
        asked = escape(f"{told['method']} {told['path']}{query} {told['protocol']}")
        answers = logging.getLogger(REQUESTS)
        answers.log(level, '"%s" %s in %.0f ms', asked, status, told["dt_ms"], extra={"status_code": status})
