"""The guard in this process, switched on for one test; and what it has told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from django_meanwhile import guard


class Told:
    """What the guard has logged so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __call__(self) -> list[str]:
        """Return the messages, once the thread that tells has said all."""
        for thread in threading.enumerate():
            if thread.name == "meanwhile-guard":
                thread.join(10)
                assert not thread.is_alive()
        return [record.getMessage() for record in self.records()]

    def records(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.name == "django_meanwhile.guard"]

    def stacks(self) -> str:
        """Return the stacks that follow the messages."""
        self()
        return "\n".join(record.exc_text or "" for record in self.records())


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Return what says what the guard has told."""
    caplog.set_level(logging.DEBUG, "django_meanwhile.guard")
    return Told(caplog)


@pytest.fixture(params=["warn", "repair"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Switch the guard on, in either mode."""
    guard.switch(request.param)
    yield request.param
    guard.uninstall()


@pytest.fixture
def repair() -> Iterator[None]:
    """Switch the guard on: it repairs."""
    guard.switch("repair")
    yield
    guard.uninstall()


def in_thread(function: Callable[[], object], name: str = "bare") -> None:
    """Run it in a bare thread to its end."""
    thread = threading.Thread(target=function, name=name)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def is_closed(raw: object) -> bool:
    """Whether a raw connection of either driver is closed."""
    import sqlite3

    if isinstance(raw, sqlite3.Connection):
        try:
            raw.execute("SELECT 1")
        except sqlite3.ProgrammingError:
            return True
        return False
    return bool(raw.closed)  # type: ignore[attr-defined]


def query(alias: str) -> object:
    """Ask the thread's own connection for 1; return the raw connection."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    return connections[alias].connection
