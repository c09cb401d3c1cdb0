"""`make bench-requests`: what a server's requests feel of an embedded worker, side by side in one run.

    make bench-requests
    make bench-requests ARGS="--only startup --rounds 20 --server gunicorn-threads"

``requests``: the 99th percentile of a page's response time while nothing runs, while the embedded worker computes a
report (``executor="process"``), and while the article's naive thread computes the same in the server.
``startup``: from the start of the server to its first answer, with an embedded worker and without. Rounds alternate,
and ratios and differences are of neighbours. One process of the server, threads, SQLite. One client asks, one request
after the other: what waits behind a slow one is not counted twice.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.run import describe_machine, names, positive
from tests import watchdog
from tests.embedded.servers import COMMANDS, EMBEDDED, Server, serve, wait_for_worker
from tests.playground import Playground, Project, eventually
from tests.processes.harness import said

MEASURES = ("requests", "startup")
WINDOW = 6.0
"""Seconds for which requests are sent in each round and case."""

PACE = 0.01
"""Seconds between two requests of the one client."""

WARM_UP = 50
COMMANDS["gunicorn-one"] = [*COMMANDS["gunicorn-threads"][:2], "--workers=1", *COMMANDS["gunicorn-threads"][3:]]


def main() -> int:
    """Measure, print, tidy up."""
    parser = argparse.ArgumentParser(
        prog="make bench-requests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names(MEASURES), default=MEASURES, metavar="A,B", help=", ".join(MEASURES))
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="of each measure (5)")
    parser.add_argument("--server", choices=sorted(COMMANDS), default="gunicorn-one", help="(gunicorn-one)")
    args = parser.parse_args()
    print(f"{describe_machine()}; server: {args.server}; {args.rounds} rounds: median (min - max)")
    with project() as made:
        if "requests" in args.only:
            requests(made, args.server, args.rounds)
        if "startup" in args.only:
            startup(made, args.server, args.rounds)
    return 0


def requests(made: Project, kind: str, rounds: int) -> None:
    """Print p50 and p99 of the three cases, and the ratios of p99 to the idle server's."""
    cases = ("idle", "embedded worker", "naive thread")
    found: dict[str, list[list[float]]] = {case: [] for case in cases}
    with served(made, kind, embedded=True) as server:
        wait_for_worker(made)
        for number in range(rounds):
            for case in cases:
                key = f"{case.replace(' ', '-')}-{number}"
                if case == "embedded worker":
                    server.enqueue("crunch", key, WINDOW + 3)
                elif case == "naive thread":
                    server.get(f"/naive/{key}/", seconds=WINDOW + 3)
                if case != "idle":
                    eventually(lambda key=key: said(made, "begin", key), within=30)
                found[case].append(response_times(server))
                if case != "idle":
                    eventually(lambda key=key: said(made, "end", key), within=60)
    idle = [percentile(times, 99) for times in found["idle"]]
    for case in cases:
        p50 = [percentile(times, 50) for times in found[case]]
        p99 = [percentile(times, 99) for times in found[case]]
        ratios = [ours / theirs for ours, theirs in zip(p99, idle, strict=True)]
        print(f"  {case:16} p50 {spread(p50)} ms   p99 {spread(p99)} ms   p99 / idle {spread(ratios)}")


def startup(made: Project, kind: str, rounds: int) -> None:
    """Print the time to the first answer with and without a worker, and the difference of neighbours."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for embedded in (True, False):
            began = time.perf_counter()
            with served(made, kind, embedded=embedded) as server:
                server.get("/inside/")
                seconds = time.perf_counter() - began
            if number:  # the first ones warm the machine's caches
                times[embedded].append(seconds * 1000)
    cost = [ours - without for ours, without in zip(times[True], times[False], strict=True)]
    print(
        f"  first answer     with {spread(times[True])} ms   without {spread(times[False])} ms   cost {spread(cost)} ms"
    )


def response_times(server: Server) -> list[float]:
    """Ask for a small page at a steady pace on one kept connection; return milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    times = []
    end = time.perf_counter() + WINDOW
    due = time.perf_counter()
    while (now := time.perf_counter()) < end:
        time.sleep(max(0.0, due - now))
        due = max(due + PACE, time.perf_counter())
        began = time.perf_counter()
        try:
            connection.request("GET", "/ping/")
            connection.getresponse().read()
        except http.client.RemoteDisconnected:  # the server has closed a kept connection: asked again, in the same time
            connection.request("GET", "/ping/")
            connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return times[WARM_UP:]


@contextmanager
def served(made: Project, kind: str, *, embedded: bool) -> Iterator[Server]:
    """Run a server for the block; all of it is gone afterwards."""
    made.meanwhile = EMBEDDED | {"EMBEDDED": embedded}
    server = serve(made, kind)
    try:
        if embedded:
            server.get("/inside/")
        yield server
    finally:
        made.kill_everything()
        made.running.clear()


@contextmanager
def project() -> Iterator[Project]:
    """Yield a migrated project on SQLite; nothing of it is left afterwards."""
    playground = Playground(None, nullcontext)
    with (
        tempfile.TemporaryDirectory(dir=watchdog.run_directory()) as directory,
        playground.project("sqlite", Path(directory), migrated=True) as made,
    ):
        yield made


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which that many percent of the others lie."""
    return statistics.quantiles(values, n=100)[percent - 1]


def spread(values: list[float]) -> str:
    """Write ``median (min - max)``."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
