"""`make bench`: how many jobs a second, the bare driver against ours, side by side in one run.

    make bench                                              everything, in a few minutes
    make bench ARGS="--only enqueue --rounds 5 --databases sqlite,postgresql"
    make bench ARGS="--json"                                JSON in place of the table; --json FILE: beside it

Rounds alternate (A B A B …), and a ratio compares two neighbours, so that whatever else the machine does hits both.
PostgreSQL is the one that the tests would use (MEANWHILE_TEST_POSTGRESQL, see ``tests.servers``). Unless ``--fsync`` is
given, no commit waits for the disk, on either side: the disk would hide everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import django

from benchmarks.figures import MEASURES, Figures
from benchmarks.report import table
from tests import servers, watchdog
from tests.playground import Playground, Project

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    """Measure, print, tidy up."""
    args = arguments()
    headings, figures = [describe_machine()], []
    for vendor in args.databases:
        with project(vendor, fsync=args.fsync) as made:
            found = measure(made, only=args.only, rounds=args.rounds, jobs=args.jobs, pickups=args.pickups)
        headings.append(found["server"])
        figures += [Figures.of(figure) for figure in found["figures"]]
    headings.append(f"{args.rounds} rounds: median (min - max)")
    if args.json != "-":
        print("\n".join(["", *headings, "", table(figures)]))
    if args.json:
        record = json.dumps({"about": headings, "figures": [figure.as_dict() for figure in figures]}, indent=2)
        with nullcontext(sys.stdout) if args.json == "-" else Path(args.json).open("w") as file:
            print(record, file=file)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names(MEASURES), default=MEASURES, metavar="A,B", help=", ".join(MEASURES))
    parser.add_argument("--databases", type=names(DATABASES), default=DATABASES, metavar="A,B", help="default: both")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="of each measure (5)")
    parser.add_argument("--jobs", type=positive, default=5000, metavar="N", help="of each round (5000)")
    parser.add_argument("--pickups", type=positive, default=30, metavar="N", help="single jobs for an idle worker (30)")
    parser.add_argument("--fsync", action="store_true", help="let commits wait for the disk")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the results as JSON")
    return parser.parse_args()


def names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Accept some of these names, with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(text.split(",")))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
        return given

    return parse


def positive(text: str) -> int:
    """Accept a whole number above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number above zero")
    return int(text)


def measure(made: Project, **options: Any) -> dict[str, Any]:
    """Have a process of the project's own take the measures; its progress goes to stderr."""
    command = [sys.executable, "-m", "benchmarks.measure", json.dumps(options)]
    done = subprocess.run(command, env=made.env, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def project(vendor: str, *, fsync: bool) -> Iterator[Project]:
    """Yield a migrated project on a database of its own; nothing of it is left afterwards."""
    server = None
    if vendor == "postgresql":
        server = servers.choose()
        if isinstance(server, servers.OwnServer):
            server.fsync = fsync
        server.start()
    playground = Playground(server, nullcontext)
    try:
        with (
            tempfile.TemporaryDirectory(dir=watchdog.run_directory()) as directory,
            playground.project(vendor, Path(directory), migrated=True) as made,
        ):
            if vendor == "sqlite":
                made.database["OPTIONS"]["init_command"] = f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}"
            yield made
    finally:
        playground.close()
        if server is not None:
            server.close()


def describe_machine() -> str:
    """Say what the numbers depend on most, and how busy it is already."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Python {platform.python_version()}, Django {django.get_version()}, {os.cpu_count()} cores, "
        f"load before {load}, {platform.platform()}"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except servers.ServerUnavailableError as unavailable:
        sys.exit(f"{unavailable}\nWithout PostgreSQL: --databases sqlite")
