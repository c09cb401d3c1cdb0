"""A visitor's jobs: the page that follows one, what its script polls, cancel, run again, download.

Each view finds the job by the visitor's ticket, so another visitor's job is not there: 404.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from django_meanwhile import JobState, NotCancellable, TaskResult

from . import paper, source
from .exhibits import EXHIBITS
from .models import Ticket

_TITLES = {
    JobState.SCHEDULED: "Waiting for its time",
    JobState.READY: "Waiting for a worker",
    JobState.RUNNING: "Running",
    JobState.SUCCESSFUL: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
    JobState.QUARANTINED: "In quarantine",
}


def visitor_of(request: HttpRequest) -> str:
    """Return who asks: a random name in a signed cookie."""
    if "visitor" not in request.session:
        request.session["visitor"] = uuid.uuid4().hex
    name: str = request.session["visitor"]
    return name


def follow(request: HttpRequest, exhibit: str, job: TaskResult[Any]) -> HttpResponse:
    """Give the visitor a ticket to the job, and lead to its page."""
    Ticket.objects.create(job_id=job.id, visitor=visitor_of(request), exhibit=exhibit)
    return redirect("job", job.id)


def newest_of(request: HttpRequest, count: int) -> list[dict[str, Any]]:
    """Return the visitor's newest jobs, for the list on the first page."""
    if "visitor" not in request.session:
        return []
    tickets = Ticket.objects.filter(visitor=visitor_of(request))[:count]
    return [_seen(ticket) for ticket in tickets]


def _find(request: HttpRequest, job_id: uuid.UUID) -> dict[str, Any]:
    return _seen(get_object_or_404(Ticket, job_id=job_id, visitor=visitor_of(request)))


def _seen(ticket: Ticket) -> dict[str, Any]:
    """Return what the templates show of a job."""
    exhibit = EXHIBITS[ticket.exhibit]
    job = exhibit.task.get_result(str(ticket.job_id))
    log = [entry for entry in job.attempt_log if entry.kind]
    end, begun = job.finished_at, job.last_attempted_at
    return {
        "job": job,
        "exhibit": exhibit,
        "title": _TITLES[job.state],
        "value": job.return_value if job.state is JobState.SUCCESSFUL else None,
        "waited": (begun - job.enqueued_at).total_seconds() if begun else None,
        "ran": (end - begun).total_seconds() if end and begun else None,
        "log": [
            {
                "kind": entry.kind.name.lower(),
                "error": entry.exception_class_path.rpartition(".")[2],
                "ended_at": entry.ended_at,
                "detail": source.with_short_paths(entry.traceback),
            }
            for entry in log
        ],
        "crashes": sum(entry.kind.name == "CRASH" for entry in log),
        "why": job.errors[-1].traceback if job.state is JobState.QUARANTINED else "",
    }


@never_cache
def show(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """Show a job; the page reloads itself, or its script polls, until the job has ended."""
    seen = _find(request, job_id)
    return render(request, "job.html", {**seen, "code": source.of_task(seen["exhibit"])})


@never_cache
def status(request: HttpRequest, job_id: uuid.UUID) -> JsonResponse:
    """Say how the job is. `html` is the part of the page to replace when `version` has changed."""
    seen = _find(request, job_id)
    job, progress = seen["job"], seen["job"].progress
    return JsonResponse(
        {
            "state": job.state.name,
            "title": seen["title"],
            "finished": job.is_finished,
            "percent": progress.percent if progress else None,
            "message": progress.message if progress else "",
            "attempts": job.attempts,
            "failures": [entry["error"] for entry in seen["log"]],
            "waited": seen["waited"],
            "ran": seen["ran"],
            "value": seen["value"],
            "epoch": job.epoch,
            "version": f"{job.state.name} {job.epoch}",
            "html": render_to_string("_job.html", seen, request),
        }
    )


@require_POST
def cancel(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """Ask the job to stop. If it has ended meanwhile, its page says how."""
    with contextlib.suppress(NotCancellable):
        _find(request, job_id)["job"].cancel()
    return redirect("job", job_id)


@require_POST
def run_again(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """Run a job again that has ended."""
    with contextlib.suppress(NotCancellable):
        _find(request, job_id)["job"].retry()
    return redirect("job", job_id)


def download(request: HttpRequest, job_id: uuid.UUID) -> FileResponse:
    """Hand the file over to the visitor whose job wrote it."""
    seen = _find(request, job_id)
    path = paper.path_of(seen["job"].id)
    if seen["value"] is None or not path.is_file():
        raise Http404("This job has written no file, or not yet.")
    return FileResponse(path.open("rb"), as_attachment=True, filename=f"climate-of-{seen['value']['place']}.html")
