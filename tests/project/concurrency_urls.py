"""Pages that use concurrency inside a request, for tests of real servers. The base pages are there as well."""

import asyncio
import json
import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_meanwhile.concurrent import create_task, parallel_map
from django_meanwhile.concurrent.maps.processes import shared_pool
from tests.project import mapped, tasks
from tests.project.models import Mark
from tests.project.urls import urlpatterns as base


def cores(request: HttpRequest) -> JsonResponse:
    """Compute in processes; say which, and what they were asked."""
    found = list(parallel_map(mapped.pid, range(8), executor="process"))
    inside = next(parallel_map(mapped.environment, [0], executor="process"))
    return JsonResponse({"pid": os.getpid(), "pids": found, "pool": shared_pool().pids(), "main": inside["main"]})


def spin(request: HttpRequest) -> HttpResponse:
    """Never answer: a process of the pool spins."""
    list(parallel_map(mapped.spin, [json.loads(request.GET["path"])], executor="process"))
    return HttpResponse("never")


async def linger(key: str, seconds: float) -> None:
    """Write marks at the beginning and at the end, through the ORM."""
    await Mark.objects.acreate(text=f"{key} begun")
    tasks.tell("begin", key)
    try:
        await asyncio.sleep(seconds)
        await Mark.objects.acreate(text=f"{key} done")
        tasks.tell("end", key)
    except asyncio.CancelledError:
        tasks.tell("cancelled", key)
        raise


async def background(request: HttpRequest, key: str) -> HttpResponse:
    """Start a coroutine, and answer at once."""
    count = await Mark.objects.acount()
    create_task(linger(key, json.loads(request.GET["seconds"])), name=key)
    return HttpResponse(str(count))


async def many(request: HttpRequest) -> HttpResponse:
    """Start forty coroutines that use the ORM."""
    for n in range(40):
        create_task(linger(f"many{n}", 0.2))
    return HttpResponse("started")


def refused(request: HttpRequest) -> HttpResponse:
    """A sync view has no loop: say what it is told."""
    try:
        create_task(linger("refused", 0))
    except Exception as error:
        return HttpResponse(f"{type(error).__name__}: {error}")
    return HttpResponse("not refused")


async def arefused(request: HttpRequest) -> HttpResponse:
    """An async view: refused under WSGI, and there the reason is told."""
    return refused(request)


urlpatterns = [
    *base,
    path("cores/", cores),
    path("spin/", spin),
    path("background/<str:key>/", background),
    path("many/", many),
    path("refused/", refused),
    path("arefused/", arefused),
]
