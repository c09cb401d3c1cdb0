"""Uses one facility in thousands of requests and counts what is open: a process of its own, for ``leaks``.

Its argument is JSON (``facility``, ``requests``), and so is what it prints. One facility for each process: what one
leaves behind must not be counted as the next one's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django

django.setup()

import psutil  # noqa: E402 - Django's set-up comes first
from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from benchmarks import facilities  # noqa: E402
from benchmarks.served import Asgi, Wsgi  # noqa: E402

EVERY = 25
"""Requests between two looks."""

SETTLE = 10.0
"""Seconds that idle threads get to close their connections, at most."""


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Yield what counts: sessions on the server, open files of SQLite, or what a pool has given and not got back."""
    if connection.vendor == "sqlite":
        process, file = psutil.Process(), str(settings.DATABASES["default"]["NAME"])
        yield lambda: sum(opened.path == file for opened in process.open_files())
        return
    if connection.settings_dict["OPTIONS"].get("pool"):
        yield _out_of_the_pool
        return
    import psycopg

    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    database = settings.DATABASES["default"]
    # One query for all backends of this database; the one that asks, and those that clean up, are not meant.
    look = """SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    given: dict[str, Any] = {ours: database[theirs] for ours, theirs in names.items()}
    with psycopg.connect(**given, autocommit=True) as server:
        yield lambda: server.execute(look).fetchone()[0]


def _out_of_the_pool() -> int:
    stats = connection.pool.get_stats()
    return int(stats["pool_size"]) - int(stats["pool_available"])


@override_settings(ROOT_URLCONF="benchmarks.facilities", DEBUG_PROPAGATE_EXCEPTIONS=True)
def use(facility: str, requests: int) -> dict[str, Any]:
    """Use it; return the counts, and the error that ended it early, if one did."""
    wsgi, asgi = Wsgi(), Asgi()
    is_async = facility in facilities.NAIVE_ASYNC | facilities.OURS_ASYNC
    failed: list[str] = []  # in a thread that nobody asks, too
    threading.excepthook = lambda args: failed.append(_first_line(args.exc_value))
    with counting() as count, asyncio.Runner() as loop:
        most, done = 0, 0
        begun = time.perf_counter()
        while done < requests and not failed:
            try:
                if is_async:  # on one event loop that lasts, as a server's does
                    loop.run(asgi.get(f"/async/{facility}/"))
                else:
                    wsgi.get(f"/use/{facility}/")
            except Exception as error:
                failed.append(_first_line(error))
            else:
                done += not failed
            if not done % EVERY:
                most = max(most, count())
        seconds = time.perf_counter() - begun
        most = max(most, count())
        left = _settled(count)
    gc.collect()
    with counting() as count:
        collected = count()
    return {
        "requests": done,
        "error": failed[0] if failed else "",
        "most": most,
        "left": left,
        "collected": collected,
        "milliseconds": seconds / max(done, 1) * 1000,
    }


def _first_line(error: BaseException | None) -> str:
    """Name the error; of a group, the first one in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _settled(count: Callable[[], int]) -> int:
    """Return how many are left when idle threads have had their time; no garbage is collected for that."""
    end = time.monotonic() + SETTLE
    while (left := count()) and time.monotonic() < end:
        time.sleep(0.1)
    return left


if __name__ == "__main__":
    print(json.dumps(use(**json.loads(sys.argv[1]))))
