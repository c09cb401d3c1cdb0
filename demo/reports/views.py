"""The views, and the URLs that lead to them."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from . import tasks


def start_report(request: HttpRequest) -> HttpResponse:
    """Start a report and answer at once."""
    result = tasks.generate_report.enqueue("John", int(request.GET.get("rounds", 100)))
    return JsonResponse({"job": result.id}, status=202)


def show_report(request: HttpRequest, job: str) -> HttpResponse:
    """Say how far the report is, and what came out of it."""
    result = tasks.generate_report.get_result(job)
    progress = result.progress
    return JsonResponse(
        {
            "state": result.state.name,
            "percent": progress.percent if progress else 0,
            "value": result.return_value if result.state.name == "SUCCESSFUL" else None,
        }
    )


urlpatterns = [path("reports/new/", start_report), path("reports/<str:job>/", show_report)]
