"""A view for each facility that runs two queries beside the request: the URLconf of ``leaking``.

The naive ones are written as they usually are. None of them closes a connection, and so it is seen who does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent import futures

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_meanwhile.concurrent import (
    Lock,
    TaskGroup,
    ThreadPoolExecutor,
    aparallel,
    aparallel_map,
    create_task,
    default_executor,
    parallel,
    parallel_map,
)

CALLS = 2


def query(number: int = 1) -> int:
    """Ask the database for next to nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [number])
        return int(cursor.fetchone()[0])


# --- as it is usually written -------------------------------------------------------------------


def bare_threads() -> None:
    threads = [threading.Thread(target=query) for _ in range(CALLS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bare_executor() -> None:
    with futures.ThreadPoolExecutor(CALLS) as executor:
        list(executor.map(query, range(CALLS)))


async def gather() -> None:
    await asyncio.gather(*(sync_to_async(query)() for _ in range(CALLS)))


async def gather_in_threads() -> None:
    insensitive = sync_to_async(query, thread_sensitive=False)
    await asyncio.gather(*(insensitive() for _ in range(CALLS)))


async def to_thread() -> None:
    await asyncio.gather(*(asyncio.to_thread(query) for _ in range(CALLS)))


# --- ours ---------------------------------------------------------------------------------------


def executor_in_the_view() -> None:
    with ThreadPoolExecutor(CALLS) as executor:
        list(executor.map(query, range(CALLS)))


def shared_executor() -> None:
    for future in [default_executor().submit(query) for _ in range(CALLS)]:
        future.result()


def together() -> None:
    parallel(*[query] * CALLS)


def group() -> None:
    with TaskGroup() as tasks:
        for _ in range(CALLS):
            tasks.create_task(query)


def mapped() -> None:
    list(parallel_map(query, range(CALLS)))


def locked() -> None:
    with Lock("bench"):
        query()


async def together_async() -> None:
    await aparallel(*[query] * CALLS)


async def mapped_async() -> None:
    assert [number async for number in aparallel_map(query, range(CALLS))] == list(range(CALLS))


async def in_the_background() -> None:
    await create_task(sync_to_async(query)())


async def locked_async() -> None:
    async with Lock("bench"):
        await sync_to_async(query)()


NAIVE: dict[str, Callable[[], None]] = {
    "threading.Thread": bare_threads,
    "concurrent.futures.ThreadPoolExecutor": bare_executor,
}
NAIVE_ASYNC: dict[str, Callable[[], Awaitable[None]]] = {
    "asyncio.gather": gather,
    "gather(thread_sensitive=False)": gather_in_threads,
    "asyncio.to_thread": to_thread,
}
OURS: dict[str, Callable[[], None]] = {
    "ThreadPoolExecutor": executor_in_the_view,
    "default_executor": shared_executor,
    "parallel": together,
    "TaskGroup": group,
    "parallel_map": mapped,
    "Lock": locked,
}
OURS_ASYNC: dict[str, Callable[[], Awaitable[None]]] = {
    "aparallel": together_async,
    "aparallel_map": mapped_async,
    "create_task": in_the_background,
    "Lock (async)": locked_async,
}


def use(request: HttpRequest, facility: str) -> HttpResponse:
    """Use the facility once."""
    (NAIVE | OURS)[facility]()
    return HttpResponse("done")


async def use_async(request: HttpRequest, facility: str) -> HttpResponse:
    """Use the facility once, on the event loop."""
    await (NAIVE_ASYNC | OURS_ASYNC)[facility]()
    return HttpResponse("done")


urlpatterns = [path("use/<str:facility>/", use), path("async/<str:facility>/", use_async)]
