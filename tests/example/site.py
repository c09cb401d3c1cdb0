"""A running example site of the tests' own: its real server, the worker that it brings along, a directory to itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import django_meanwhile
from example.tour.server import Server
from tests import ports, watchdog

_PACKAGE = Path(django_meanwhile.__path__[0]).resolve().parent


def make_server(directory: Path) -> Server:
    """Return a server that has not been started; warnings are errors in it, and nothing of it outlives the tests."""
    environment = {
        **watchdog.run_mark(),
        "PYTHONPATH": str(_PACKAGE),
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(directory),
    }
    return Server(directory, port=ports.free_port(), environment=environment)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Server]:
    """Serve the site as long as the block lasts; its log goes into the report of a test that fails."""
    with make_server(directory) as server:
        server.manage("migrate", "--verbosity", "0")
        server.start()
        try:
            yield server
        finally:
            print(server.log.read_text())
