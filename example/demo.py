"""`make demo`: a tour of the example site, over HTTP, with measured figures. Exits 1 if anything does not hold.

Everything is real: one `runserver` with the worker that it brings along, SQLite in a temporary directory, SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from tour import endings, inside, recovery, ways
from tour.server import Server
from tour.told import Told
from tour.visitor import Visitor


def take(told: Told, server: Server) -> None:
    """Take the tour."""
    server.manage("migrate", "--verbosity", "0")
    server.start()
    visitor = Visitor(server.port)
    visitor.start("report", place=ways.PLACE, resamples=1000).end()  # the worker is up
    resamples = ways.enough_work(visitor)
    ways.three_ways(told, server, visitor, resamples)
    ways.two_at_once(told, visitor, resamples)
    endings.endings(told, visitor)
    inside.three_ways(told, visitor)
    recovery.killed_server(told, server, visitor, resamples)
    recovery.killed_tree(told, server, visitor, resamples)


def main() -> int:
    """Set up, take the tour, tidy up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    told, begun = Told(), time.monotonic()
    told.say(
        f"django-meanwhile on Django {version('Django')}, Python {sys.version.split()[0]}, SQLite, "
        f"{os.cpu_count()} cores: one runserver, and the worker that it brings along"
    )
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        told.say(f"Others are at work here as well (load {load:.1f} on {cores} cores): the figures show it.")
    with (
        tempfile.TemporaryDirectory(prefix="meanwhile-demo-") as directory,
        Server(Path(directory), environment={"TMPDIR": directory}) as server,
    ):
        try:
            take(told, server)
        except KeyboardInterrupt:
            return 130
        except (RuntimeError, TimeoutError, OSError) as error:
            told.hold("the tour went on to its end", False, error)
        if told.broken:
            told.say(f"\nWhat the server and its worker said:\n{server.log.read_text() if server.log.exists() else ''}")
    if told.broken:
        told.say(f"\n{len(told.broken)} of the above did not hold: {'; '.join(told.broken)}")
    else:
        told.say(f"\nAll of it held, after {time.monotonic() - begun:.0f} s. Try it yourself: make site")
    return bool(told.broken)


if __name__ == "__main__":
    sys.exit(main())
