"""Pages that tests of real servers ask for: enqueue a job, look into the server's process, make it fork."""

import json
import os
import signal
import threading
import time

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.project import tasks


def enqueue(request: HttpRequest, task: str) -> HttpResponse:
    """Enqueue a task of the project with the JSON array ``args``; answer with the job's id."""
    arguments = json.loads(request.GET.get("args", "[]"))
    return HttpResponse(getattr(tasks, task).enqueue(*arguments).id)


def inside(request: HttpRequest) -> JsonResponse:
    """Say what this server process is made of: its id, its signal handlers, its threads."""
    handlers = {}
    for number in sorted(signal.valid_signals()):
        handler = signal.getsignal(number)
        name = getattr(handler, "__qualname__", None)
        handlers[int(number)] = f"{handler.__module__}.{name}" if name else str(handler)
    threads = [thread.name for thread in threading.enumerate()]
    return JsonResponse({"pid": os.getpid(), "handlers": handlers, "threads": threads})


def fork(request: HttpRequest) -> HttpResponse:
    """Leave a forked copy of this process behind, which sleeps; answer with its process id."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return HttpResponse(str(pid))


def naive(request: HttpRequest, key: str) -> HttpResponse:
    """Do as the article does: compute in a thread of the server."""
    seconds = json.loads(request.GET["seconds"])
    threading.Thread(target=tasks.count_up, args=(key, seconds), daemon=True).start()
    return HttpResponse("started")


def slow(request: HttpRequest, key: str) -> HttpResponse:
    """Answer when the file that is named after ``key`` is there."""
    tasks.tell("asked", key)
    while not (tasks.truth_file().parent / key).exists():
        time.sleep(0.02)
    return HttpResponse("at last")


def ping(request: HttpRequest) -> HttpResponse:
    """A page that costs nothing."""
    return HttpResponse("pong")


urlpatterns = [
    path("enqueue/<str:task>/", enqueue),
    path("inside/", inside),
    path("fork/", fork),
    path("naive/<str:key>/", naive),
    path("slow/<str:key>/", slow),
    path("ping/", ping),
]
