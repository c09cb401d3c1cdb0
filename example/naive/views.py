"""The naive ways, as an article on Django and threads has them: each does what it says, and leaves out the rest.

They are shown on their page by `pages`. Do not use them as a model.
"""

import threading

from django.db import connection
from django.db.models import Q
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from django.views.decorators.http import require_POST

from reports import climate, weather
from reports.models import Observation


def generate_report(data):
    days = weather.days_of(data["place"])
    resamples = int(data["resamples"])
    climate.study(data["place"], days, resamples, tell=lambda *_: None)
    print("Report generated!")


@require_POST
def blocking_view(request):
    generate_report(request.POST)
    return HttpResponse("Report generated!")


@require_POST
def thread_view(request):
    thread = threading.Thread(target=generate_report, args=(request.POST,))
    thread.start()
    return HttpResponse("Report generation started!")


def background_task(queryset_id):
    queryset = Observation.objects.filter(Q(id=queryset_id))
    print("Query executed!")
    return queryset


@require_POST
def query_view(request):
    with CaptureQueriesContext(connection) as captured:
        background_task(queryset_id=1)
    return HttpResponse(f"Query executed! Statements that reached the database: {len(captured)}.")
