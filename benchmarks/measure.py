"""Takes the measures on one database: a process of its own, in the project that ``run`` has made.

Its argument is JSON (``only``, ``rounds``, ``jobs``, ``pickups``), and so is what it prints; progress goes to stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import partial

import django

django.setup()

from benchmarks import claiming, enqueueing, working  # noqa: E402 - Django's set-up comes first
from benchmarks.figures import Figures  # noqa: E402
from benchmarks.place import Place  # noqa: E402


def measures(rounds: int, jobs: int, pickups: int) -> dict[str, Callable[[Place], Figures]]:
    """Return what each of ``MEASURES`` stands for, with the numbers filled in."""
    run = partial(working.end_to_end, rounds=rounds, jobs=jobs)
    return {
        "enqueue": partial(enqueueing.one_at_a_time, rounds=rounds, jobs=max(1, jobs // 10)),
        "bulk": partial(enqueueing.in_bulk, rounds=rounds, jobs=jobs),
        "store": partial(claiming.claim_and_finish, rounds=rounds, jobs=jobs),
        **{executor: partial(run, executor=executor) for executor in working.SLOTS},
        "pickup": partial(working.pickup, times=pickups),
    }


def main(only: list[str], **numbers: int) -> None:
    """Take those measures, one after the other."""
    # Nobody works the queue while jobs are only enqueued; that is meant, and need not be warned of.
    logging.getLogger("django_meanwhile").setLevel(logging.ERROR)
    place = Place()
    try:
        figures = []
        for name in only:
            print(f"{place.vendor}: {name}", file=sys.stderr, flush=True)
            figures.append(measures(**numbers)[name](place).as_dict())
        print(json.dumps({"server": place.describe(), "figures": figures}))
    finally:
        place.close()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
