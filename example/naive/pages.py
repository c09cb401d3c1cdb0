"""The page that shows the naive ways beside ours, with their code and with what happens to everybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from reports import source, tasks
from reports import views as ours
from reports.weather import PLACES

from . import views

RESAMPLES = 50_000


def show(request: HttpRequest) -> HttpResponse:
    """Show every way with its code."""
    code = {
        "blocking": source.of(views.generate_report, views.blocking_view),
        "thread": source.of(views.thread_view),
        "ours": source.of(tasks.write_report.func, ours.start_report),
        "query": source.of(views.background_task),
        "our_query": source.of(tasks.find_twins.func),
    }
    context = {"code": code, "place": PLACES[0], "resamples": RESAMPLES, "computing": _computing()}
    return render(request, "naive.html", context)


@never_cache
def threads(request: HttpRequest) -> JsonResponse:
    """Say how many naive threads compute in this process: all that anybody can know of them."""
    return JsonResponse({"computing": _computing()})


def _computing() -> int:
    return sum(thread.name.endswith("(generate_report)") for thread in threading.enumerate())


def framed(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show what a naive view says on a page with a way back; a script gets it as it is."""

    @wraps(view)
    def framing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        begun = time.perf_counter()
        response = view(request, *args, **kwargs)
        seconds = time.perf_counter() - begun
        if response.status_code != 200 or not request.accepts("text/html"):
            return response
        answer = {"answer": response.content.decode(), "milliseconds": seconds * 1000}
        return render(request, "answer.html", answer)

    return framing
