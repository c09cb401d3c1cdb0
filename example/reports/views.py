"""The views behind the buttons. Each enqueues, answers, and is shown on its own page, so keep them readable.

With `atomic`, the job and the visitor's ticket to it are committed together.
"""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from . import tasks
from .exhibits import ReportForm, TwinsForm
from .jobs import follow
from .pages import show_again


@require_POST
@transaction.atomic
def start_report(request: HttpRequest) -> HttpResponse:
    form = ReportForm(request.POST)
    if not form.is_valid():
        return show_again(request, "report", form)
    job = tasks.write_report.enqueue(**form.cleaned_data)
    return follow(request, "report", job)


@require_POST
@transaction.atomic
def start_query(request: HttpRequest) -> HttpResponse:
    form = TwinsForm(request.POST)
    if not form.is_valid():
        return show_again(request, "query", form)
    job = tasks.find_twins.enqueue(form.cleaned_data["wet"])
    return follow(request, "query", job)


@require_POST
@transaction.atomic
def start_retry(request: HttpRequest) -> HttpResponse:
    return follow(request, "retry", tasks.fetch_forecast.enqueue())


@require_POST
@transaction.atomic
def start_timeout(request: HttpRequest) -> HttpResponse:
    return follow(request, "timeout", tasks.count_to_infinity.enqueue())


@require_POST
@transaction.atomic
def start_cancel(request: HttpRequest) -> HttpResponse:
    return follow(request, "cancel", tasks.watch_the_sky.enqueue(minutes=10))


@require_POST
@transaction.atomic
def start_poison(request: HttpRequest) -> HttpResponse:
    return follow(request, "poison", tasks.touch_the_lightning.enqueue())


@require_POST
@transaction.atomic
def start_fan_out(request: HttpRequest) -> HttpResponse:
    return follow(request, "fan-out", tasks.ask_stations.enqueue(100, seconds=0.5))
