"""Takes the measures of ``concurrent`` on one database: a process of its own, in the project that it has made.

Its argument is JSON (``only``, ``rounds``), and so is what it prints; progress goes to stderr.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402 - Django's set-up comes first
from django.test.utils import override_settings  # noqa: E402

from benchmarks import computing, overhead, page  # noqa: E402
from benchmarks.figures import alternate  # noqa: E402
from benchmarks.served import Asgi, Wsgi  # noqa: E402
from benchmarks.sides import Sides  # noqa: E402


@override_settings(ROOT_URLCONF="benchmarks.page")
def the_page(rounds: int) -> Sides:
    """Eight queries of 50 ms, through Django's whole handling of a request.

    The request's own connection is persistent under WSGI (``CONN_MAX_AGE``), where that is usual, so that one query is
    no more than a query. Under ASGI, where it is not, each request opens one, and so does each naive thread.
    """
    connection.settings_dict["CONN_MAX_AGE"] = None
    connection.ensure_connection()
    connection.settings_dict["CONN_MAX_AGE"] = 0  # of those that are opened from now on
    if connection.vendor == "sqlite":
        page.calibrate()
    wsgi, asgi = Wsgi(), Asgi()
    with asyncio.Runner() as loop:

        def took(way: str) -> float:
            begun = time.perf_counter()
            body = loop.run(asgi.get(f"/async/{way}/")) if way in page.ASYNC_WAYS else wsgi.get(f"/page/{way}/")
            seconds = time.perf_counter() - begun
            assert int(body), way
            return seconds * 1000

        names = [*page.WAYS, *page.ASYNC_WAYS]
        # The naive ways leave connections behind: the collector frees them here, in nobody's time.
        found = alternate(rounds, [partial(took, way) for way in names], lambda: gc.collect() and None)
    return Sides(
        measure=f"a page with {page.QUERIES} queries of {page.SECONDS * 1000:.0f} ms",
        database=connection.vendor,
        unit="ms",
        ways=dict(zip(names, found, strict=True)),
        base=dict.fromkeys(names[1:], names[0]),
        notes={},
    )


MEASURES: dict[str, Callable[[int], list[Sides]]] = {
    "page": lambda rounds: [the_page(rounds)],
    "overhead": lambda rounds: [overhead.of_empty_calls(rounds, number) for number in overhead.NUMBERS],
    "mapping": lambda rounds: [computing.of_forty_calls(rounds)],
}


def main(only: list[str], rounds: int) -> None:
    """Take those measures, one after the other."""
    found: list[dict[str, Any]] = []
    for name in only:
        print(f"{connection.vendor}: {name}", file=sys.stderr, flush=True)
        found += [sides.as_dict() for sides in MEASURES[name](rounds)]
    print(json.dumps(found))
    connection.close()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
