"""`make bench-leaks`: how many database connections are open after 10,000 requests with each facility.

    make bench-leaks
    make bench-leaks ARGS="--databases pool --requests 1000 --json /tmp/figures"

Each request runs two queries beside its own, by one facility: threads and coroutines as they are usually written, and
ours. Counted are, on PostgreSQL, the server's sessions, with a pool the connections that it has not got back, and on
SQLite the open descriptors of the file: the most that were seen at once, those that are left when idle threads have had
their time to close, and those that a full garbage collection does not find. Goal for ours: none left.

Needs: PostgreSQL, the one that the tests would use (see ``tests.servers``), or ``--databases sqlite``. The naive ways
get fewer requests (``--naive``), as each opens connections; with a pool they end at the first error. So do those of
ours that open a connection in each (``--connecting``). Takes about six minutes; ``--requests 1000`` less than two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.concurrent import write
from benchmarks.run import describe_machine, names, positive, project
from benchmarks.sides import columns
from tests import servers
from tests.playground import Project

DATABASES = ("postgresql", "pool", "sqlite")
NAIVE = (
    "threading.Thread",
    "concurrent.futures.ThreadPoolExecutor",
    "asyncio.gather",
    "gather(thread_sensitive=False)",
    "asyncio.to_thread",
)
OURS = (
    "ThreadPoolExecutor",
    "default_executor",
    "parallel",
    "TaskGroup",
    "parallel_map",
    "Lock",
    "aparallel",
    "aparallel_map",
    "create_task",
    "Lock (async)",
)
CONNECTING = ("ThreadPoolExecutor", "Lock", "Lock (async)")
"""Ours that open a connection in each request here: a new executor, a lock that nobody else holds or wants."""

POOL = {"min_size": 1, "max_size": 10, "timeout": 1}
IDLE = 1
"""Seconds after which our idle threads end here; 10 by default."""


def main() -> int:
    """Count, print, tidy up."""
    parser = argparse.ArgumentParser(
        prog="make bench-leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names(NAIVE + OURS), default=NAIVE + OURS, metavar="A,B", help="facilities")
    parser.add_argument(
        "--databases", type=names(DATABASES), default=DATABASES, metavar="A,B", help=", ".join(DATABASES)
    )
    parser.add_argument("--requests", type=positive, default=10_000, metavar="N", help="with ours (10000)")
    parser.add_argument("--naive", type=positive, default=1000, metavar="N", help="with the naive ways (1000)")
    parser.add_argument(
        "--connecting", type=positive, default=1000, metavar="N", help=f"with {', '.join(CONNECTING)} (1000)"
    )
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write leaks.json into this folder")
    args = parser.parse_args()
    about, found = [describe_machine()], []
    for database in args.databases:
        with project("sqlite" if database == "sqlite" else "postgresql", fsync=False) as made:
            if database == "pool":
                made.database["OPTIONS"] = {"pool": POOL}
            made.meanwhile = {"CONCURRENT": {"idle": IDLE}}
            for facility in args.only:
                print(f"{database}: {facility}", file=sys.stderr, flush=True)
                requests = args.connecting if facility in CONNECTING else args.requests
                requests = args.naive if facility in NAIVE else requests
                found.append(
                    {
                        "database": database,
                        "facility": facility,
                        "naive": facility in NAIVE,
                        **count(made, facility, requests),
                    }
                )
    print("\n".join(["", *about, "", table(found)]))
    if args.json:
        write(args.json / "leaks.json", about, found)
    leaked = [f"{each['facility']} ({each['database']})" for each in found if is_broken(each)]
    if leaked:
        print(f"\nNot as promised: {', '.join(leaked)}")
    return bool(leaked)


def is_broken(found: dict[str, Any]) -> bool:
    """Say whether one of ours left something open, or failed."""
    return found["facility"] in OURS and bool(found["left"] or found["error"])


def count(made: Project, facility: str, requests: int) -> dict[str, Any]:
    """Have a process of the project's own use the facility and count."""
    command = [sys.executable, "-m", "benchmarks.leaking", json.dumps({"facility": facility, "requests": requests})]
    # Connections that are left behind are what is counted; that the collector complains of them is known.
    environment = made.env | {"PYTHONWARNINGS": "ignore::ResourceWarning"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def table(found: list[dict[str, Any]]) -> str:
    """Return the lines."""
    lines = [("database", "facility", "requests", "ms each", "most at once", "left", "after gc.collect()", "")]
    for each in found:
        name = ("ours: " if each["facility"] in OURS else "") + each["facility"]
        counts = (f"{each[key]:,}" for key in ("most", "left", "collected"))
        lines.append(
            (
                each["database"],
                name,
                f"{each['requests']:,}",
                f"{each['milliseconds']:.2f}",
                *counts,
                each["error"],
            )
        )
    return columns(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except servers.ServerUnavailableError as unavailable:
        sys.exit(f"{unavailable}\nWithout PostgreSQL: --databases sqlite")
