"""A page with eight queries of 50 ms, in every way that it can be written: the URLconf of ``inside``.

On PostgreSQL a query waits (``pg_sleep``), as one that the database works on. On SQLite there is nobody else: it
computes, in the thread that asks, for as many steps as ``calibrate`` found.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_meanwhile.concurrent import aparallel, parallel

QUERIES = 8
SECONDS = 0.05
STEPS = (
    "WITH RECURSIVE steps(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < %s) SELECT count(*) FROM steps"
)
steps = 100_000
"""How far SQLite counts in one query."""


def query() -> int:
    """Ask the database for something that takes 50 ms."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT 1 FROM pg_sleep(%s)", [SECONDS])
        else:
            cursor.execute(STEPS, [steps])
        return int(cursor.fetchone()[0])


def calibrate() -> None:
    """Let a query on SQLite take about as long as one on PostgreSQL; the quickest of five tells."""
    global steps  # noqa: PLW0603 - measured once, before the first request
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        query()
        took.append(time.perf_counter() - begun)
    steps = max(1000, round(steps * SECONDS / min(took)))


# --- def ----------------------------------------------------------------------------------------


def one() -> list[int]:
    """One query: what the others are compared with."""
    return [query()]


def sequential() -> list[int]:
    """One after the other, as a view is usually written."""
    return [query() for _ in range(QUERIES)]


def bare_threads() -> list[int]:
    """A new thread for each, which leaves a connection behind."""
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(query())) for _ in range(QUERIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def bare_executor() -> list[int]:
    """The standard library's executor, made in the view; its threads leave their connections behind."""
    with ThreadPoolExecutor(QUERIES) as executor:
        return [future.result() for future in [executor.submit(query) for _ in range(QUERIES)]]


def ours() -> list[int]:
    """Ours."""
    return list(parallel(*[query] * QUERIES))


# --- async def ----------------------------------------------------------------------------------

aquery = sync_to_async(query)
"""What each of the ORM's ``a`` methods is made of."""


async def one_async() -> list[int]:
    """One query: what the coroutines are compared with."""
    return [await aquery()]


async def gather() -> list[int]:
    """Looks parallel, and is not."""
    return list(await asyncio.gather(*(aquery() for _ in range(QUERIES))))


async def gather_in_threads() -> list[int]:
    """Is parallel; each thread leaves a connection behind."""
    insensitive = sync_to_async(query, thread_sensitive=False)
    return list(await asyncio.gather(*(insensitive() for _ in range(QUERIES))))


async def ours_async() -> list[int]:
    """Ours."""
    return list(await aparallel(*[query] * QUERIES))


WAYS: dict[str, Callable[[], list[int]]] = {
    "one query": one,
    "one after the other": sequential,
    "threading.Thread for each": bare_threads,
    "ThreadPoolExecutor in the view": bare_executor,
    "parallel": ours,
}
ASYNC_WAYS: dict[str, Callable[[], Awaitable[list[int]]]] = {
    "one query, async": one_async,
    "asyncio.gather": gather,
    "gather(thread_sensitive=False)": gather_in_threads,
    "aparallel": ours_async,
}


def show(request: HttpRequest, way: str) -> HttpResponse:
    """Answer with the page, made in that way."""
    return HttpResponse(str(sum(WAYS[way]())))


async def show_async(request: HttpRequest, way: str) -> HttpResponse:
    """Answer with the page, made in that way on the event loop."""
    return HttpResponse(str(sum(await ASYNC_WAYS[way]())))


urlpatterns = [path("page/<str:way>/", show), path("async/<str:way>/", show_async)]
