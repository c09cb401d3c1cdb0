"""`make bench-concurrent`: concurrency inside a request, side by side with what is usual, in one run.

    make bench-concurrent
    make bench-concurrent ARGS="--only page --databases postgresql --rounds 20 --json /tmp/figures"

``page``: a view with eight queries of 50 ms, from request to response: one after the other, naive threads,
``asyncio.gather``, ``parallel`` and ``aparallel``. ``overhead``: calls that do nothing. ``mapping``: forty CPU-bound
calls by ``parallel_map`` on the cores of this machine.

Needs: PostgreSQL, the one that the tests would use (see ``tests.servers``), or ``--databases sqlite``; cores with
nothing else to do. Rounds alternate, and a ratio is one of neighbours. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.run import DATABASES, describe_machine, names, positive, project
from benchmarks.sides import Sides, table
from tests import servers
from tests.playground import Project

MEASURES = ("page", "overhead", "mapping")
IDLE = 600
"""Seconds after which our idle threads and processes end here: other ways take their turn meanwhile."""


def main() -> int:
    """Measure, print, tidy up."""
    parser = argparse.ArgumentParser(
        prog="make bench-concurrent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names(MEASURES), default=MEASURES, metavar="A,B", help=", ".join(MEASURES))
    parser.add_argument("--databases", type=names(DATABASES), default=DATABASES, metavar="A,B", help="default: both")
    parser.add_argument("--rounds", type=positive, default=15, metavar="N", help="of each measure (15)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write concurrent.json into this folder")
    args = parser.parse_args()
    about = [describe_machine(), f"{args.rounds} rounds: median (min - max)"]
    measured: list[Sides] = []
    for number, vendor in enumerate(args.databases):
        # What costs no query is measured once.
        only = [name for name in args.only if name == "page" or not number]
        if only:
            with project(vendor, fsync=False) as made:
                made.meanwhile = {"CONCURRENT": {"idle": IDLE}}
                measured += measure(made, only=only, rounds=args.rounds)
    print("\n".join(["", *about, "", table(measured)]))
    if args.json:
        write(args.json / "concurrent.json", about, [each.as_dict() for each in measured])
    return 0


def measure(made: Project, **options: Any) -> list[Sides]:
    """Have a process of the project's own take the measures; its progress goes to stderr."""
    command = [sys.executable, "-m", "benchmarks.inside", json.dumps(options)]
    # The naive ways leave connections behind, of which the collector's ResourceWarning tells: that is meant.
    environment = made.env | {"PYTHONWARNINGS": "ignore::ResourceWarning"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [Sides.of(found) for found in json.loads(done.stdout)]


def write(file: Path, about: list[str], figures: list[dict[str, Any]]) -> None:
    """Write a record that ``plot`` can read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": about, "figures": figures}, indent=2) + "\n")
    print(f"\n{file}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except servers.ServerUnavailableError as unavailable:
        sys.exit(f"{unavailable}\nWithout PostgreSQL: --databases sqlite")
